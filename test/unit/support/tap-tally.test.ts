import t from 'tap'
import { type TestResult, tally } from '../../support/tap-tally.ts'

async function resultsOf(lines: string[], code = 0): Promise<string[]> {
  const results: TestResult[] = []
  const counter = tally(
    'x.test.ts',
    result => results.push(result),
    () => {},
  )
  for (const line of ['TAP version 14', ...lines]) counter.write(`${line}\n`)
  await counter.end({ code, signal: null })
  return results.map(({ outcome, path, reason }) =>
    [outcome, path.join(' › '), reason].filter(Boolean).join(': '),
  )
}

const passing = ['# Subtest: adds', '    ok 1 - a', '    ok 2 - b', '    1..2', 'ok 1 - adds # time=1ms']

t.test('two assertions in one test count once', async t => {
  t.same(await resultsOf([...passing, '1..1']), ['passed: adds'])
})

t.test('a group counts its innermost tests', async t => {
  const group = [
    '# Subtest: group',
    ...passing.map(line => `    ${line}`),
    '    1..1',
    'ok 1 - group',
    '1..1',
  ]
  t.same(await resultsOf(group), ['passed: group › adds'])
})

t.test('a failed assertion fails its test, once', async t => {
  const failing = ['# Subtest: adds', '    not ok 1 - a', '    1..1', 'not ok 1 - adds', '1..1']
  t.same(await resultsOf(failing, 1), ['failed: adds'])
})

t.test('a group that fails by itself counts as a failure beside its passing test', async t => {
  const group = ['# Subtest: group', ...passing.map(line => `    ${line}`), '    not ok 2 - own assertion']
  t.same(await resultsOf([...group, '    1..2', 'not ok 1 - group', '1..1'], 1), [
    'passed: group › adds',
    'failed: group',
  ])
})

t.test('a skipped test and a skipped file keep their reasons', async t => {
  t.same(await resultsOf(['ok 1 - adds # SKIP needs root', '1..1']), ['skipped: adds: needs root'])
  t.same(await resultsOf(['1..0 # SKIP needs Go']), ['skipped: x.test.ts: needs Go'])
})

t.test('a process that ends badly after passing tests is a failure', async t => {
  t.same(await resultsOf([...passing, '1..1'], 7), ['passed: adds', 'failed: x.test.ts'])
})

t.test('a file without a named test is a failure', async t => {
  t.same(await resultsOf(['ok 1 - loose assertion', '1..1']), ['failed: x.test.ts'])
})

t.test('a stream that is cut off is a failure', async t => {
  t.same(await resultsOf(['# Subtest: adds', '    ok 1 - a'], 1), ['failed: x.test.ts'])
})

t.test('what a test says is text, what tap says beside it is not', async t => {
  const said: string[] = []
  const counter = tally(
    'x.test.ts',
    () => {},
    line => said.push(line.trimEnd()),
  )
  const lines = [
    'TAP version 14',
    '# Subtest: adds',
    '    ok 1 - a',
    '    # took 3 ms',
    '    1..1',
    'ok 1 - adds',
  ]
  for (const line of [...lines, '1..1', '# { total: 1, pass: 1 }', '# time=3ms']) counter.write(`${line}\n`)
  await counter.end({ code: 0, signal: null })
  t.same(said, ['took 3 ms'])
})

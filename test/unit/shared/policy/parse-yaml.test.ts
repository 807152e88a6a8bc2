import t from 'tap'
import { LineCounter } from 'yaml'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'
import {
  affords,
  MAX_LENGTH,
  MAX_TOKENS,
  newBudget,
  parseYaml,
} from '../../../../shared/policy/parse-yaml.ts'
import { createReader } from '../../../../shared/policy/reader.ts'

const ORIGIN = { namespace: 'shop', systemNamespace: 'postern-system' }
const HEAD = `apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: orders}
spec:
  rules:
`
const BLOCK_RULE = `  - from:
    - source:
        principals:
        - cluster.local/ns/shop/sa/cart
    to:
    - operation:
        ports: ["8080"]
`
const FLOW_RULE = '  - {to: [{operation: {paths: [/orders]}}]}\n'

const filled = (unit: string, length = MAX_LENGTH, head = '') =>
  head + unit.repeat(Math.floor((length - head.length) / unit.length))
const parse = (text: string) => parsePolicyConfigMap({ data: { file: text } }, ORIGIN)

/** What reading the text took, and how far it went. */
function spent(text: string, maxErrors = 100) {
  const budget = newBudget()
  const lines = new LineCounter()
  const parsed = parseYaml(text, lines, budget, maxErrors)
  return { parsed, tokens: MAX_TOKENS - budget.tokens, lines: lines.lineStarts.length }
}

t.test('as much as a ConfigMap may hold is read, in block style and in flow style', async t => {
  for (const rule of [BLOCK_RULE, FLOW_RULE]) {
    const text = filled(rule, MAX_LENGTH, HEAD)
    const parsed = parse(text)
    if (parsed.kind !== 'valid') throw new Error(JSON.stringify(parsed.problems[0]))
    t.match(parsed.documents, [{ policy: { rules: { length: text.split(rule).length - 1 } } }])
  }
})

t.test('whatever is written, no more than so many tokens of it are parsed', async t => {
  for (const [head, unit] of [
    ['', '- \n'],
    ['', '? \n'],
    ['', ':\n'],
    ['', 'a: b\n'],
    ['', '\n \n#\n'],
    ['[', '[],'],
    ['[', '{},'],
    ['[', '1 ,'],
    ['[', '""\n,'],
  ] as const) {
    const { parsed, tokens, lines } = spent(filled(unit, 4 * MAX_LENGTH, head))
    t.match(parsed, { reason: /more than 200000 keys/ }, JSON.stringify(unit))
    t.equal(tokens, MAX_TOKENS + 1, JSON.stringify(unit))
    t.ok(lines <= MAX_TOKENS, `${lines} lines were looked at`)
  }
})

t.test('mistakes beyond those that are told are not looked for', async t => {
  for (const unit of [']', '}\n', 'a #\n']) {
    const { parsed, tokens } = spent(filled(unit))
    t.ok(Array.isArray(parsed), JSON.stringify(unit))
    t.ok(tokens < 1_000, `${tokens} tokens`)
    t.match(parse(filled(unit)), { kind: 'invalid', problems: { length: 100 } })
  }
})

t.test('documents are counted, empty ones too', async t => {
  const { parsed, tokens } = spent(filled('---\n'))
  t.match(parsed, { reason: 'has more than 5000 documents' })
  t.ok(tokens < 20_000, `${tokens} tokens`)
})

t.test('a mistake costs no stack, and everybody else’s errors have theirs', async t => {
  const { stackTraceLimit } = Error
  const { parsed } = spent('a: [,,,\nb: "')
  const [document] = Array.isArray(parsed) ? parsed : []
  t.ok(document.errors.length > 2)
  t.notMatch(document.errors[0].stack, /\n {4}at /)
  t.equal(Error.stackTraceLimit, stackTraceLimit)
})

t.test('the files of a ConfigMap share what may be parsed', async t => {
  const half = filled('[],', MAX_LENGTH / 2 - 10, 'a: [')
  const parsed = parsePolicyConfigMap({ data: { a: half, b: half } }, ORIGIN)
  if (parsed.kind === 'valid') throw new Error('valid')
  t.match(
    parsed.problems.filter(({ reason }) => /keys, values/.test(reason)),
    [{ file: 'b', hint: /several ConfigMaps/ }],
  )
})

const SOURCE = `{from: [{source: {principals: [${filled('cluster.local/ns/shop/sa/cart, ', 60_000)}]}}]}`
const aliased = (times: number) => `${HEAD}  - &r ${SOURCE}\n${'  - *r\n'.repeat(times)}`

t.test('what aliases stand for counts as if it were written', async t => {
  t.match(parse(aliased(3)), { kind: 'valid' })
  t.match(parse(aliased(40)), {
    kind: 'invalid',
    problems: [{ reason: 'is longer than 262144 characters with its aliases written out' }],
  })
  const documents = ['a', 'b', 'c'].map(name => aliased(1).replace('orders', name))
  t.match(parse(documents.slice(0, 2).join('---\n')), { kind: 'valid' })
  t.match(parse(documents.join('---\n')), { kind: 'invalid' }, 'in all documents together')
})

t.test('a value is looked through no further than its budget', async t => {
  let seen = 0
  const item = {
    get name() {
      seen += 1
      return 'x'
    },
  }
  const values = Array.from({ length: 1_000 }, () => item)
  t.equal(affords({ tokens: 0, expanded: 100 }, values), false)
  t.ok(seen < 100, `${seen} items`)
  t.equal(affords({ tokens: 0, expanded: 10_000 }, values), true)
})

t.test('of unknown fields the first hundred are told, and what each may have meant', async t => {
  const told: string[] = []
  const reader = createReader((path, reason) => told.push(`${path}: ${reason}`))
  const value = Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`rules${n}`, 1]))
  t.equal(reader.mapping({ value, path: [] }, ['rules']), undefined)
  t.equal(told.length, 100)
  t.match(told[0], /did you mean rules/)
})

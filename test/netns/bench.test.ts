// That the benchmark measures at all; how fast anything is, is its own business (docs/performance.md).
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { groupsMissing } from '../../bench/memory-group.ts'
import type { Result } from '../../bench/results.ts'
import { run } from '../support/processes.ts'
import { requireCommands, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'

const MAIN = fileURLToPath(new URL('../../bench/main.ts', import.meta.url))
const skip = requireNetns() || requireCommands('curl', 'h2load', 'haproxy', 'nginx', 'prlimit', 'ss', 'wrk')

t.test('a short run measures Postern and a peer, and says what it measured', { skip }, async t => {
  const json = join(scratchDirectory(t), 'out.json')
  const subjects = ['direct', 'postern-l4', 'haproxy']
  const only = ['--only', subjects.join(), '--measure', 'streams-1000,fixed-rate-1000,new-connections,upload']
  const { code, stdout, stderr } = await run(process.execPath, [
    MAIN,
    '--ci',
    '--repeats',
    '1',
    ...only,
    '--json',
    json,
  ])
  if (code !== 0) t.comment(`${stdout}\n${stderr}`)
  const results: Result[] = JSON.parse(await readFile(json, 'utf8'))
  const value = (subject: string, measure: string) =>
    results.find(result => result.subject === subject && result.measure === measure)?.value ?? 0
  for (const subject of subjects) {
    t.ok(value(subject, 'new connections: connections') > 0, `${subject}: connections`)
    t.ok(value(subject, 'upload: throughput') > 0, `${subject}: throughput`)
    t.ok(value(subject, '1000 requests/s: p99') > 0, `${subject}: latency`)
  }
  t.ok(value('postern-l4', 'memory, 1000 streams: private') > 10, 'memory of the proxies, not of a shell')
  const lack = groupsMissing()
  if (lack) t.match(stdout, `NOT MEASURED working set: ${lack}`)
  else t.ok(value('postern-l4', 'memory, 1000 streams: working set') > 10)
  t.ok(value('postern-l4', 'new connections: CPU per connection') > 0, 'and their CPU')
  t.equal(value('direct', 'new connections: CPU per connection'), 0)
  t.notMatch(stdout, /^FAILED/m)
})

t.test('an unknown option is refused with the usage', { skip }, async t => {
  const { code, stderr } = await run(process.execPath, [MAIN, '--fast'])
  t.equal(code, 2)
  t.match(stderr, /usage: npm run bench/)
})

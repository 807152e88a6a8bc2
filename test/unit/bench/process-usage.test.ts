import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { cpuSeconds, memory, rollupOf, ticksOf, tree } from '../../../bench/process-usage.ts'
import { requireLinux } from '../../support/requirements.ts'

t.test('user and system time are found behind a command with spaces and parentheses', async t => {
  const stat = '42 (a (b) c) S 1 42 42 0 -1 4194304 1 2 3 4 150 50 7 8 20 0 12 0 100 200 300'
  t.equal(ticksOf(stat), 200)
})

t.test('private memory is what is clean and what is dirty', async t => {
  const text = [
    '00400000-7fff00000000 ---p 00000000 00:00 0 [rollup]',
    'Rss:                1000 kB',
    'Pss:                 400 kB',
    'Pss_Dirty:           100 kB',
    'Private_Clean:        30 kB',
    'Private_Dirty:       270 kB',
  ].join('\n')
  t.same(rollupOf(text), { private: 300 * 1024, pss: 400 * 1024, rss: 1000 * 1024 })
})

t.test('a process counts with its children', { skip: requireLinux() }, async t => {
  const script = 'sh -c "while :; do :; done" & echo ready; wait'
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'], detached: true })
  const pid = child.pid ?? 0
  t.teardown(() => process.kill(-pid, 'SIGKILL'))
  await once(child.stdout, 'data')
  t.equal(tree(pid).length, 2)
  const deadline = performance.now() + 20_000
  while (cpuSeconds([pid]) < 0.1 && performance.now() < deadline) await new Promise(r => setTimeout(r, 50))
  t.ok(cpuSeconds([pid]) >= 0.1, 'the child burns, the parent sleeps')
  t.ok(memory([pid]).rss > memory([pid]).private)
})

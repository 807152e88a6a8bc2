import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import {
  groupsMissing,
  ownGroup,
  removeGroups,
  workingSet,
  workingSetOf,
} from '../../../bench/memory-group.ts'
import { requireRoot } from '../../support/requirements.ts'

const MIB = 2 ** 20

t.test('the working set is the usage without inactive file pages', async t => {
  const stat = 'anon 700\ninactive_anon 1\ninactive_file 300\nactive_file 50\ntotal_inactive_file 400\n'
  t.equal(workingSetOf('1000\n', stat, 'inactive_file'), 700)
  t.equal(workingSetOf('1000\n', stat, 'total_inactive_file'), 600)
  t.equal(workingSetOf('200\n', stat, 'inactive_file'), 0, 'both were read at different moments')
})

const skip = requireRoot() || groupsMissing()

t.test('a process counts with its children, without whoever started it', { skip }, async t => {
  const hold = `globalThis.held = Buffer.alloc(100 * ${MIB}, 1); console.log('holding'); setInterval(() => {}, 1e6)`
  const start = `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(hold)}], { stdio: 'inherit' })`
  // Its child comes after it is in the group, however late that is.
  const child = spawn(process.execPath, ['-e', `process.stdin.once('data', () => ${start})`], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  })
  ownGroup(child.pid)
  child.stdin.end('now')
  const pid = child.pid ?? 0
  await once(child.stdout, 'data')
  const bytes = workingSet(pid) ?? 0
  t.ok(bytes > 100 * MIB && bytes < 300 * MIB, `${bytes / MIB} MiB`)
  t.equal(workingSet(process.pid), undefined, 'who has no group')
  process.kill(-pid, 'SIGKILL')
  await once(child.stdout, 'close')
  await t.resolves(async () => {
    const deadline = performance.now() + 5_000
    for (removeGroups(); workingSet(pid) !== undefined; removeGroups()) {
      if (performance.now() > deadline) throw new Error('the group is still there')
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  })
})

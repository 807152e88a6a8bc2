// A memory-backed volume as the kubelet makes an emptyDir: a directory on tmpfs that everybody may write, of a given size if
// the test is to fill it.
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const SHARED_MEMORY = '/dev/shm'
/** statfs(2) */
const TMPFS = 0x01021994

/** Calls what it is given at the end, in reverse order. */
type Scope = { teardown(undo: () => void): void }

/** With `size`, as mount(8) has it, it needs root. */
export function memoryVolume(t: Scope, size?: string): string {
  const isMemory = existsSync(SHARED_MEMORY) && statfsSync(SHARED_MEMORY).type === TMPFS
  const path = mkdtempSync(join(isMemory ? SHARED_MEMORY : tmpdir(), 'postern-volume-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  if (size !== undefined) {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path])
    t.teardown(() => void execFileSync('umount', ['--lazy', path]))
  }
  chmodSync(path, 0o777)
  return path
}

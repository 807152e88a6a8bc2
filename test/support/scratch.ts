// A directory that outlives a test's own teardowns, unlike tap's testdir: for what still writes until it is stopped.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** Call it before the teardowns that stop its writers: teardowns run in reverse order. */
export function scratchDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'postern-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

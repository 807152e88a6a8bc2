// The sources of a version that was released, from the repository's history: what a cluster still runs while it is upgraded.
import { execFileSync } from 'node:child_process'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { scratchDirectory } from './scratch.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Its directory, with this version's dependencies. @throws where the history does not reach back so far. */
export function releasedSources(t: Test, version: string): string {
  const git = (...args: string[]) => execFileSync('git', ['-C', ROOT, ...args], { maxBuffer: 1 << 28 })
  const commit = String(git('log', '-1', '--format=%H', `--grep=^release: v${version}$`)).trim()
  if (!commit) throw new Error(`no commit "release: v${version}": is this a shallow clone?`)
  const directory = scratchDirectory(t)
  execFileSync('tar', ['--extract', '--directory', directory], { input: git('archive', commit) })
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
  return directory
}

// How many files, and so streams, a process may have open: raised where the machine allows it, and asked before a load
// would fail for want of them.
import { execFileSync } from 'node:child_process'
import { Missing } from './subject.ts'

const WANTED = 65_536
/** What a proxy has open beside its streams, generously. */
const OTHERS = 200

/** For this process and all that it starts. A machine that forbids it keeps its limit. */
export function raiseFileLimit(): void {
  try {
    prlimit(`--nofile=${WANTED}:${WANTED}`)
  } catch {
    // requireFiles says what can then not be measured.
  }
}

/** What a program may open that is started now. */
export const fileLimit = (): number => Number(prlimit('--nofile', '--noheadings', '--output=HARD'))

/** @throws Missing when this machine does not let a process open as many. */
export function requireFiles(count: number): void {
  const limit = fileLimit()
  if (count + OTHERS > limit)
    throw new Missing(`${count} open files are needed, this machine allows ${limit}`)
}

const prlimit = (...args: string[]): string =>
  execFileSync('prlimit', ['--pid', String(process.pid), ...args], { encoding: 'utf8', stdio: 'pipe' })

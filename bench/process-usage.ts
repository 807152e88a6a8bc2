// What a proxy costs: CPU time and memory of a process with its threads and children, read from /proc.
import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ, the unit of /proc/PID/stat, which the kernel's ABI fixes at 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100
const KIB = 1024

export type Memory = {
  /** Bytes that would be free if the process ended. */
  readonly private: number
  /** Private, and its share of what it shares. */
  readonly pss: number
  readonly rss: number
}

/** The process and all that descend from it. */
export function tree(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap(thread =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8')
      .trim()
      .split(' ')
      .filter(Boolean)
      .map(Number),
  )
  return [pid, ...children.flatMap(tree)]
}

/** Seconds of CPU that the processes and their descendants have used, in user and kernel mode. */
export function cpuSeconds(pids: readonly number[]): number {
  const ticks = pids.flatMap(tree).map(pid => ticksOf(readFileSync(`/proc/${pid}/stat`, 'utf8')))
  return sum(ticks) / TICKS_PER_SECOND
}

/** utime + stime of a line of /proc/PID/stat; the command in parentheses may itself hold spaces and parentheses. */
export function ticksOf(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(fields[11]) + Number(fields[12])
}

export function memory(pids: readonly number[]): Memory {
  const rollups = pids.flatMap(tree).map(pid => rollupOf(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')))
  return {
    private: sum(rollups.map(rollup => rollup.private)),
    pss: sum(rollups.map(rollup => rollup.pss)),
    rss: sum(rollups.map(rollup => rollup.rss)),
  }
}

/** The text of /proc/PID/smaps_rollup. */
export function rollupOf(text: string): Memory {
  const bytes = (name: string) => KIB * Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1])
  return {
    private: bytes('Private_Clean') + bytes('Private_Dirty'),
    pss: bytes('Pss'),
    rss: bytes('Rss'),
  }
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

// One load on one subject gives several figures, measured together.
import type { Running, SubjectName } from './subject.ts'

export const UNITS = {
  rate: '1/s',
  time: 'µs',
  throughput: 'MB/s',
  memory: 'MB',
  cpuPerGib: 'ms/GiB',
  start: 'ms',
} as const
export type Unit = (typeof UNITS)[keyof typeof UNITS]

/** `measure` names what was measured, in full: `32 connections: p99`. */
export type Figure = { readonly measure: string; readonly value: number; readonly unit: Unit }

export type Effort = {
  /** Of each closed or paced loop. */
  readonly seconds: number
  /** New connections beside bulk streams, one after another. */
  readonly probes: number
}

export type Experiment = {
  readonly name: string
  /** Subjects for which the targets need it; nothing else is measured in a quick run. */
  readonly quick: readonly SubjectName[]
  /** Subjects that cannot do it: they would answer another question. */
  readonly not?: readonly SubjectName[]
  /** It needs proxies that nobody has used yet. */
  readonly fresh?: true
  run(running: Running, effort: Effort): Promise<readonly Figure[]>
}

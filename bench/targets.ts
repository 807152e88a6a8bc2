// What Postern must reach and what it aims at, as ratios to a peer in the same run (or megabytes), and whether it did.
import { medianOf, type Result } from './results.ts'
import type { SubjectName } from './subject.ts'

export type Target = {
  readonly title: string
  readonly measure: string
  readonly subject: SubjectName
  /** Absent: the value itself is compared. */
  readonly against?: SubjectName
  readonly better: 'more' | 'less'
  /** The floor, below which the promise is broken. */
  readonly atLeast: number
  readonly aim: number
  /** What is reached where the floor is not yet: a short run is held to it instead. */
  readonly held?: number
}

export type Verdict = {
  readonly target: Target
  /** Absent when it was not measured. */
  readonly reached?: number
  readonly verdict: 'aim' | 'pass' | 'miss' | 'not measured'
}

const L4 = { subject: 'postern-l4', against: 'envoy-l4' } as const
const L7 = { subject: 'postern-l4', against: 'envoy-l7' } as const
const HTTP = { subject: 'postern-http', against: 'envoy-l7' } as const
const OWN = { subject: 'postern-l4', better: 'less' } as const
const BUSY = 'new connection beside three bulk streams: p99'
const NEW = 'new connections: connections'
const PER_REQUEST = '32 connections: CPU per request'

const more = (atLeast: number, aim: number) => ({ better: 'more', atLeast, aim }) as const
const less = (atLeast: number, aim: number) => ({ better: 'less', atLeast, aim }) as const

export const TARGETS: readonly Target[] = [
  { title: 'requests/s at 32 connections', measure: '32 connections: requests', ...L4, ...more(1.3, 2) },
  { title: 'requests/s with an HTTP policy', measure: '32 connections: requests', ...HTTP, ...more(2.5, 4) },
  { title: 'p50 of one connection', measure: '1 connection: p50', ...L4, ...less(1.2, 1), held: 1.3 },
  { title: 'p99 at 1,000 requests/s', measure: '1000 requests/s: p99', ...L4, ...less(2, 1) },
  { title: 'new connections/s', measure: NEW, ...L4, ...more(3, 5), held: 2.2 },
  { title: 'new connections/s', measure: NEW, ...L7, ...more(0.9, 1.3), held: 0.55 },
  { title: '1 GiB towards the client', measure: 'download: throughput', ...L4, ...more(0.7, 1) },
  { title: '1 GiB towards the server', measure: 'upload: throughput', ...L4, ...more(0.7, 1) },
  { title: 'CPU per request', measure: PER_REQUEST, ...L4, ...less(0.75, 0.5) },
  { title: 'CPU per request', measure: PER_REQUEST, ...L7, ...less(0.4, 0.25) },
  { title: 'CPU per request with an HTTP policy', measure: PER_REQUEST, ...HTTP, ...less(0.4, 0.25) },
  { title: 'private memory idle, MB', measure: 'memory, idle: private', ...OWN, atLeast: 35, aim: 25 },
  {
    title: 'private memory with 1,000 streams, MB',
    measure: 'memory, 1000 streams: private',
    ...OWN,
    atLeast: 60,
    aim: 45,
  },
  { title: 'p99 of a new connection beside three bulk streams', measure: BUSY, ...L4, ...less(2, 1) },
]

export const judge = (results: readonly Result[], targets = TARGETS): Verdict[] =>
  targets.map(target => {
    const { measure, subject, against } = target
    const own = medianOf(results, subject, measure)
    const other = against === undefined ? 1 : medianOf(results, against, measure)
    if (own === undefined || other === undefined) return { target, verdict: 'not measured' }
    const reached = own / other
    return { target, reached, verdict: verdictOf(target, reached) }
  })

function verdictOf({ better, atLeast, aim }: Target, reached: number): Verdict['verdict'] {
  const holds = (wanted: number) => (better === 'more' ? reached >= wanted : reached <= wanted)
  if (holds(aim)) return 'aim'
  return holds(atLeast) ? 'pass' : 'miss'
}

/** A short run on a busy machine is noisy: only what is missed by more than a fifth is an error. */
const TOLERANCE = 0.8

export function isBroken({ target: { better, atLeast, held = atLeast }, reached }: Verdict): boolean {
  if (reached === undefined) return false
  return better === 'more' ? reached < held * TOLERANCE : reached > held / TOLERANCE
}

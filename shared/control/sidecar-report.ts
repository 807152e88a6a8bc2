// What the injector's replicas know of the sidecars that are connected to them: told between replicas, to the command
// line, and to whoever must know that every pod has taken something up. Each sidecar spoke for itself; its pod is proved.
import { type Decode, extensible, integer, listOf, optional, refuse, text } from '../decode.ts'
import { failingRenewal, fingerprints, hex, time } from './decode.ts'
import type { FailingRenewal } from './messages.ts'

export type SidecarReport = {
  readonly podUid: string
  readonly pod: string
  readonly namespace: string
  /** Of the sidecar. */
  readonly version: string
  /** The replica of the injector that says so. */
  readonly replica: string
  /** SHA-256 fingerprints (hex) of the roots in force; none before its first status. */
  readonly roots: readonly string[]
  readonly certificate?: ReportedCertificate
  /** While its renewals fail in a row. Sidecars of v0.1.0 do not say. */
  readonly renewal?: FailingRenewal
  /** Absent: a replica that does not say, or none was sent yet. */
  readonly state?: ReportedState
  /** Features of policies that its version does not know: it refuses what they cover. */
  readonly lacks?: readonly string[]
  readonly connectedSince: string
  /** When its stream ended: nothing is known of it since. Absent while it is connected. */
  readonly endedAt?: string
}

/** Everything that binds the sidecar's pod, policies among it, as its stream counts versions. */
export type ReportedState = {
  /** The latest that it was sent. */
  readonly version: number
  readonly toldAt: string
  /** The latest that it says is in force; 0: none. */
  readonly applied: number
}

export type ReportedCertificate = {
  /** Lower-case hex. */
  readonly serial: string
  readonly notAfter: string
  /** Absent: a sidecar that does not say. */
  readonly receivedAt?: string
  /** It is the one that its stream was authenticated with; any other is what the sidecar says of itself. */
  readonly presented?: boolean
}

/** A live pod with a sidecar that no replica is connected to. */
export type Unconnected = {
  readonly podUid: string
  readonly pod: string
  readonly namespace: string
  /** Its address is not known yet: it starts. */
  readonly starting: boolean
  /** What was last heard of it, where a replica remembers. */
  readonly last?: SidecarReport
}

export type MissingReplica = { readonly replica: string; readonly reason: string }

export type Gathered = {
  /** Connected sidecars, each once. */
  readonly reports: readonly SidecarReport[]
  /** Replicas that did not answer: sidecars of theirs look as if they were not connected. */
  readonly missing: readonly MissingReplica[]
  readonly unconnected: readonly Unconnected[]
}

/** Bounds one line of an answer. */
export const MAX_REPORT_BYTES = 64 * 1024

const name = text(value => value !== '', 'a string that is not empty')

const count = integer(0, Number.MAX_SAFE_INTEGER)

const flag: Decode<boolean> = (value, where) => {
  if (typeof value === 'boolean') return value
  throw refuse(where, 'must be true or false')
}

/** Keys of a newer version are left alone: between replicas of an upgrade, and for an older command line. */
export const decodeSidecarReport: Decode<SidecarReport> = extensible<SidecarReport>({
  podUid: name,
  pod: name,
  namespace: name,
  version: name,
  replica: name,
  roots: fingerprints,
  certificate: optional(
    extensible<ReportedCertificate>({
      serial: hex,
      notAfter: time,
      receivedAt: optional(time),
      presented: optional(flag),
    }),
  ),
  renewal: optional(failingRenewal),
  state: optional(extensible<ReportedState>({ version: count, toldAt: time, applied: count })),
  lacks: optional(listOf(name)),
  connectedSince: time,
  endedAt: optional(time),
})

export const decodeGathered: Decode<Gathered> = extensible<Gathered>({
  reports: listOf(decodeSidecarReport),
  missing: listOf(extensible<MissingReplica>({ replica: name, reason: name })),
  unconnected: listOf(
    extensible<Unconnected>({
      podUid: name,
      pod: name,
      namespace: name,
      starting: flag,
      last: optional(decodeSidecarReport),
    }),
  ),
})

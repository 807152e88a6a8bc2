// When a certificate request may be deleted. A pod owns eight names and may not delete; Kubernetes' own cleaner takes
// an hour, which would keep ten times as many objects and could leave a restarting sidecar without a name.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import type { Tracked } from './tracked-requests.ts'

const SLOT_NAME = /^postern-(.+)-[0-7]$/

const LONGEST_MS = 60_000
const SHORTEST_MS = 10_000

/**
 * How long answered requests stay readable: a minute, which is as long as a sidecar asks for an answer, but no longer than a
 * certificate lives. It renews after a third of that at the earliest: eight names last for 2.6 lives, and one is free again
 * after one and a half.
 */
export const readableMs = (maxLeafLifetimeSeconds: number): number =>
  Math.min(Math.max(maxLeafLifetimeSeconds * 1000, SHORTEST_MS), LONGEST_MS)

/** How often to look for those whose time is over. */
export const sweepMs = (afterMs: number): number => Math.min(afterMs / 2, LONGEST_MS / 2)

/** The pod that owns the request's name; undefined for requests that people made. */
export const podUidOf = ({ metadata }: V1CertificateSigningRequest): string | undefined =>
  SLOT_NAME.exec(metadata?.name ?? '')?.[1]

/**
 * Answered (issued, denied or failed) at least `afterMs` ago, under a name of ours. The times that the API server wrote are
 * not asked: with a clock behind it a leader would free no name for as long, and with one ahead of it take answers unread.
 */
export const isSpent = ({ object, answeredAt }: Tracked, monotonic: number, afterMs: number): boolean =>
  answeredAt !== undefined && podUidOf(object) !== undefined && monotonic - answeredAt >= afterMs

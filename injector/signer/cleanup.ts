// When a certificate request may be deleted. A pod owns eight names and may not delete; Kubernetes' own cleaner takes
// an hour, which would keep ten times as many objects and could leave a restarting sidecar without a name.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import type { Tracked } from './tracked-requests.ts'

const SLOT_NAME = /^postern-(.+)-[0-7]$/

/** The pod that owns the request's name; undefined for requests that people made. */
export const podUidOf = ({ metadata }: V1CertificateSigningRequest): string | undefined =>
  SLOT_NAME.exec(metadata?.name ?? '')?.[1]

/**
 * Answered (issued, denied or failed) at least `afterMs` ago, under a name of ours. The times that the API server wrote are
 * not asked: with a clock behind it a leader would free no name for as long, and with one ahead of it take answers unread.
 */
export const isSpent = ({ object, answeredAt }: Tracked, monotonic: number, afterMs: number): boolean =>
  answeredAt !== undefined && podUidOf(object) !== undefined && monotonic - answeredAt >= afterMs

// When a certificate request may be deleted. A pod owns eight names and may not delete; Kubernetes' own cleaner takes
// an hour, which would keep ten times as many objects and could leave a restarting sidecar without a name.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import { hasCondition } from './request.ts'
import type { Tracked } from './tracked-requests.ts'

const SLOT_NAME = /^postern-(.+)-[0-7]$/

/** The pod that owns the request's name; undefined for requests that people made. */
export const podUidOf = ({ metadata }: V1CertificateSigningRequest): string | undefined =>
  SLOT_NAME.exec(metadata?.name ?? '')?.[1]

/** Answered (issued, denied or failed) at least `afterMs` ago, under a name of ours. */
export function isSpent({ object, issuedAt = 0 }: Tracked, now: number, afterMs: number): boolean {
  const answered =
    object.status?.certificate || hasCondition(object, 'Denied') || hasCondition(object, 'Failed')
  if (!answered || podUidOf(object) === undefined) return false
  const times = (object.status?.conditions ?? []).map(({ lastUpdateTime }) =>
    new Date(lastUpdateTime ?? 0).getTime(),
  )
  return now - Math.max(issuedAt, ...times) >= afterMs
}

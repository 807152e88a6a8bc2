// Whether an endpoint is in the choice. It is judged by openings alone: one that cannot be opened is out for a time that
// doubles while it keeps failing, then one connection probes it; one that opens is in again. A pure state machine.
import { type Backoff, backoffMs } from '../../shared/backoff.ts'
import type { Code, PosternError } from '../../shared/errors.ts'

export type Health =
  | { readonly kind: 'in' }
  /** `until` is monotonic: then it may be probed. `failures` are those in a row. */
  | { readonly kind: 'out'; readonly failures: number; readonly until: number }
  | { readonly kind: 'probing'; readonly failures: number }

/** What an attempt to open says about its endpoint. `undecided`: nothing; it ended for a reason of our own. */
export type Report =
  | { readonly kind: 'answered' | 'undecided' }
  | { readonly kind: 'failed'; readonly code: Code }

export const ANSWERED: Report = { kind: 'answered' }
export const UNDECIDED: Report = { kind: 'undecided' }
export const IN: Health = { kind: 'in' }
export const OUT_MS: Backoff = { baseMs: 1_000, capMs: 30_000 }

export const isProbeDue = (health: Health, now: number): boolean =>
  health.kind === 'out' && now >= health.until

/** Others avoid it until this one attempt has reported. */
export const probing = (health: Health): Health =>
  health.kind === 'out' ? { kind: 'probing', failures: health.failures } : health

export function afterReport(health: Health, report: Report, now: number, random: number): Health {
  if (report.kind === 'answered') return IN
  if (report.kind === 'undecided') {
    return health.kind === 'probing' ? { kind: 'out', failures: health.failures, until: now } : health
  }
  // Attempts that began before it was out say nothing new when they fail, too.
  if (health.kind === 'out') return health
  const before = health.kind === 'probing' ? health.failures : 0
  return { kind: 'out', failures: before + 1, until: now + backoffMs(OUT_MS, before, random) }
}

/**
 * Whose fault a failed opening is. An endpoint that refuses by policy is a healthy one, and what this sidecar lacks
 * itself says nothing of anybody else. What fails the check of its identity may be one pod that could not renew, or an
 * address that changed hands: each endpoint is held to an identity of its own, so another may be tried.
 */
export function reportOf({ code }: PosternError): Report {
  switch (code) {
    case 'PSTN_PEER_UNREACHABLE':
    case 'PSTN_TLS_FAILED':
    case 'PSTN_APP_UNREACHABLE':
    case 'PSTN_DESTINATION_UNREACHABLE':
    case 'PSTN_DESTINATION_NOT_LOCAL':
    case 'PSTN_DRAINING':
    case 'PSTN_NOT_READY':
    case 'PSTN_LIMIT':
    case 'PSTN_PEER_UNEXPECTED':
    case 'PSTN_PEER_UNTRUSTED':
    case 'PSTN_PEER_EXPIRED':
    case 'PSTN_PEER_NOT_YET_VALID':
    case 'PSTN_PEER_NO_CERTIFICATE':
    case 'PSTN_PEER_ID_INVALID':
    case 'PSTN_PEER_TRUST_DOMAIN':
    case 'PSTN_PEER_USAGE':
      return { kind: 'failed', code }
    case 'PSTN_POLICY_DENIED':
    case 'PSTN_POLICY_UNSUPPORTED':
      return ANSWERED
    default:
      return UNDECIDED
  }
}

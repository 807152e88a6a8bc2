// Whether an endpoint is in the choice. It is judged by openings alone: one that cannot be opened is out for a time that
// doubles while it keeps failing, then one connection probes it; one that opens is in again. A pure state machine.
import { type Backoff, backoffMs } from '../../shared/backoff.ts'
import type { Code, PosternError } from '../../shared/errors.ts'
import { RefusedByPeer } from '../tunnel/refused-by-peer.ts'

export type Health =
  | { readonly kind: 'in' }
  /** `until` is monotonic: then it may be probed. `failures` are those in a row. */
  | { readonly kind: 'out'; readonly failures: number; readonly until: number }
  | { readonly kind: 'probing'; readonly failures: number }

/** What an attempt to open says about its endpoint. `undecided`: nothing; it ended for a reason of our own. */
export type Report =
  | { readonly kind: 'answered' | 'undecided' }
  | { readonly kind: 'failed'; readonly code: Code }

/**
 * What a failed attempt says before the others of its opening are known. `disputed`: the endpoint does not accept this
 * sidecar's certificate. If another endpoint does, the fault was its own (late roots, a wrong clock), and else ours.
 */
export type Finding = Report | { readonly kind: 'disputed'; readonly code: Code }

export const ANSWERED: Report = { kind: 'answered' }
export const UNDECIDED: Report = { kind: 'undecided' }
export const IN: Health = { kind: 'in' }
const OUT_MS: Backoff = { baseMs: 1_000, capMs: 30_000 }

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

type Findings = Readonly<Partial<Record<Code, Finding['kind']>>>

/**
 * What this sidecar met there. What fails the check of its identity may be one pod that could not renew, or an address
 * that changed hands: each endpoint is held to an identity of its own, so another may be tried. What is not here is our
 * own affair (PSTN_NOT_READY and PSTN_CERT_EXPIRED: we have no certificate), and the same at every endpoint.
 */
const MET: Findings = {
  PSTN_PEER_UNREACHABLE: 'failed',
  PSTN_TLS_FAILED: 'failed',
  PSTN_DESTINATION_UNREACHABLE: 'failed',
  PSTN_OUTSIDE_TLS: 'failed',
  PSTN_OUTSIDE_UNTRUSTED: 'failed',
  PSTN_OUTSIDE_NAME: 'failed',
  PSTN_OUTSIDE_REFUSED: 'disputed',
  PSTN_PEER_UNEXPECTED: 'failed',
  PSTN_PEER_UNTRUSTED: 'failed',
  PSTN_PEER_EXPIRED: 'failed',
  PSTN_PEER_NOT_YET_VALID: 'failed',
  PSTN_PEER_NO_CERTIFICATE: 'failed',
  PSTN_PEER_ID_INVALID: 'failed',
  PSTN_PEER_TRUST_DOMAIN: 'failed',
  PSTN_PEER_USAGE: 'failed',
  PSTN_PEER_REVOKED: 'failed',
}

/** What the endpoint's sidecar said: of itself, of what its policy forbids, or of our certificate. */
const TOLD: Findings = {
  PSTN_APP_UNREACHABLE: 'failed',
  PSTN_DESTINATION_NOT_LOCAL: 'failed',
  PSTN_DRAINING: 'failed',
  PSTN_NOT_READY: 'failed',
  PSTN_LIMIT: 'failed',
  PSTN_POLICY_DENIED: 'answered',
  PSTN_POLICY_UNSUPPORTED: 'answered',
  PSTN_PEER_UNTRUSTED: 'disputed',
  PSTN_PEER_EXPIRED: 'disputed',
  PSTN_PEER_NOT_YET_VALID: 'disputed',
  PSTN_PEER_NO_CERTIFICATE: 'disputed',
  PSTN_PEER_ID_INVALID: 'disputed',
  PSTN_PEER_TRUST_DOMAIN: 'disputed',
  PSTN_PEER_USAGE: 'disputed',
  PSTN_PEER_REVOKED: 'disputed',
}

export function findingOf(error: PosternError): Finding {
  const { code } = error
  const kind = (error instanceof RefusedByPeer ? TOLD : MET)[code] ?? 'undecided'
  return kind === 'failed' || kind === 'disputed' ? { kind, code } : { kind }
}

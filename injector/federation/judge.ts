// What an answer of a partner's endpoint changes, and when to ask again. Pure: SPIFFE Federation, sections 4.1, 4.2 and 6.2.
import { type Backoff, backoffMs } from '../../shared/backoff.ts'
import type { Code } from '../../shared/errors.ts'
import type { FetchedBundle } from '../../shared/federation/fetched.ts'
import type { SpiffeBundle } from '../../shared/spiffe-bundle.ts'

export type Answer =
  | { readonly kind: 'bundle'; readonly bundle: SpiffeBundle }
  | { readonly kind: 'failure'; readonly code: Code; readonly reason: string }

/** Section 4.1 recommends it where a bundle says nothing. */
const DEFAULT_REFRESH_SECONDS = 300
/** Nobody makes us ask more often, nor look away for longer. */
const SHORTEST_REFRESH_SECONDS = 60
const LONGEST_REFRESH_SECONDS = 3600
/** A cache that is behind comes round; a partner that was restored from a backup stays. */
const OLDER_ANSWERS = 3

export function judge(
  former: FetchedBundle | undefined,
  url: string,
  answer: Answer,
  now: number,
): FetchedBundle {
  const at = new Date(now).toISOString()
  if (answer.kind === 'failure') return failed(former, url, answer, at)
  const { roots, sequence, refreshHintSeconds } = answer.bundle
  const older = former?.url === url ? olderAnswers(former, sequence) : 0
  if (former && older > 0 && older < OLDER_ANSWERS) {
    const reason = `its sequence went back from ${former.sequence} to ${sequence}`
    return { ...failed(former, url, { code: 'PSTN_PARTNER_STALE', reason }, at), older }
  }
  return {
    url,
    roots,
    ...(sequence !== undefined && { sequence: String(sequence) }),
    ...(refreshHintSeconds !== undefined && { refreshHintSeconds }),
    fetchedAt: at,
  }
}

/** In a row, with this one. */
function olderAnswers({ sequence: known, older = 0 }: FetchedBundle, sequence: bigint | undefined): number {
  const isOlder = known !== undefined && sequence !== undefined && sequence < BigInt(known)
  return isOlder ? older + 1 : 0
}

/** The last good bundle stays, also while a new URL does not answer yet; sequences are one endpoint's alone. */
function failed(
  former: FetchedBundle | undefined,
  url: string,
  { code, reason }: { readonly code: Code; readonly reason: string },
  at: string,
): FetchedBundle {
  if (former?.url !== url) {
    const { roots = [], fetchedAt } = former ?? {}
    return { url, roots, ...(fetchedAt && { fetchedAt }), failure: { code, reason, since: at, failures: 1 } }
  }
  const { since = at, failures = 0 } = former.failure ?? {}
  return { ...former, failure: { code, reason, since, failures: failures + 1 } }
}

const RETRY: Pick<Backoff, 'baseMs'> = { baseMs: 10_000 }

/** Milliseconds from one answer to the next question; never longer because of a failure. `random` is in [0, 1). */
export function pauseMs({ refreshHintSeconds, failure }: FetchedBundle, random: number): number {
  const hint = refreshHintSeconds ?? DEFAULT_REFRESH_SECONDS
  const interval = 1000 * Math.min(Math.max(hint, SHORTEST_REFRESH_SECONDS), LONGEST_REFRESH_SECONDS)
  if (failure) return backoffMs({ ...RETRY, capMs: interval }, failure.failures - 1, random)
  // Up to a tenth early: many meshes may ask one endpoint.
  return Math.round(interval * (1 - 0.1 * random))
}

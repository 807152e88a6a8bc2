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
/**
 * A change of roots rewrites the ConfigMap and goes to every sidecar, which looks at its live connections anew. Six may come at
 * once, more than a rotation and a revocation have; then one in ten minutes.
 */
const CHANGE_MS = 10 * 60_000
const MOST_OWED_MS = 6 * CHANGE_MS
const UNSETTLED = 'PSTN_PARTNER_UNSETTLED'

export function judge(
  former: FetchedBundle | undefined,
  url: string,
  answer: Answer,
  now: number,
): FetchedBundle {
  const at = new Date(now).toISOString()
  if (answer.kind === 'failure') return failed(former, url, answer, at)
  const { roots, sequence, refreshHintSeconds } = answer.bundle
  // Another URL is the operator's doing: neither its sequence nor its pace is measured by the one before.
  const known = former?.url === url ? former : undefined
  const older = known ? olderAnswers(known, sequence) : 0
  if (known && older > 0 && older < OLDER_ANSWERS) {
    const reason = `its sequence went back from ${known.sequence} to ${sequence}`
    return { ...failed(known, url, { code: 'PSTN_PARTNER_STALE', reason }, at), older }
  }
  const pace = known && paceOf(known, roots, now)
  if (known && pace?.kind === 'held') {
    const reason = `its roots change too often: the next change is taken at ${pace.until}`
    return { ...failed(known, url, { code: UNSETTLED, reason }, at), pacedUntil: pace.owed }
  }
  return {
    url,
    roots: known && sameRoots(known.roots, roots) ? known.roots : roots,
    ...(sequence !== undefined && { sequence: String(sequence) }),
    ...(refreshHintSeconds !== undefined && { refreshHintSeconds }),
    fetchedAt: at,
    ...(pace && { pacedUntil: pace.until }),
  }
}

/** Their order says nothing, and sidecars would be told of it. */
const sameRoots = (some: readonly string[], others: readonly string[]): boolean =>
  some.length === others.length && some.every(root => others.includes(root))

type Pace =
  | { readonly kind: 'taken'; readonly until: string }
  | { readonly kind: 'held'; readonly until: string; readonly owed: string }

/** The first bundle is free; each change costs ten minutes, of which an hour may be owed. Undefined: nothing is owed. */
function paceOf(
  { roots: before, pacedUntil }: FetchedBundle,
  roots: readonly string[],
  now: number,
): Pace | undefined {
  const most = now + MOST_OWED_MS
  // What was written by a clock that was ahead is no longer debt than any: the shorter one is written back.
  const owed = Math.min(Math.max(Date.parse(pacedUntil ?? '') || now, now), most)
  const isChange = before.length > 0 && !sameRoots(before, roots)
  if (!isChange) return owed > now ? { kind: 'taken', until: time(owed) } : undefined
  const next = owed + CHANGE_MS
  if (next <= most) return { kind: 'taken', until: time(next) }
  return { kind: 'held', until: time(now + next - most), owed: time(owed) }
}

const time = (ms: number): string => new Date(ms).toISOString()

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
  // An endpoint that answers is not asked sooner for what it says.
  if (failure && failure.code !== UNSETTLED)
    return backoffMs({ ...RETRY, capMs: interval }, failure.failures - 1, random)
  // Up to a tenth early: many meshes may ask one endpoint.
  return Math.round(interval * (1 - 0.1 * random))
}

// When to renew and when to try again, as pure functions of two clocks and a random number.
// A certificate's notBefore is never used: signers backdate it, so that counting from it would renew a short-lived
// certificate at once and for ever. What counts is the time between its receipt and notAfter.
import { backoffMs } from '../../shared/backoff.ts'

/** One reading of both clocks, in milliseconds. The wall clock may step; the monotonic one may stop in suspend. */
export type Instant = { readonly wall: number; readonly monotonic: number }

/** When something is due on each clock; whichever comes first counts. */
export type Due = Instant

const EARLIEST_SHARE = 0.33
const LATEST_SHARE = 0.5
/** No certificate, however short, is renewed more often. */
const SHORTEST_WAIT_MS = 1_000
/**
 * How long a clock that was set, or a machine that slept, may go unnoticed. Timers follow the monotonic clock, which
 * stops in suspend: an hour's wait would go on for an hour after a night in which the certificate expired.
 */
const LONGEST_WAIT_MS = 15_000

const RETRY_BASE_MS = 1_000
const RETRY_CAP_MS = 300_000
/** Without a valid certificate nothing works: try more often. */
const RETRY_CAP_EXPIRED_MS = 30_000
/** Attempts, at least, that fit into what is left of a certificate's life. */
const ATTEMPTS_LEFT = 8

/** A random 33–50 % of the time from receipt to notAfter, so that pods which started together drift apart. */
export function planRenewal(
  { receivedAt, notAfter }: { receivedAt: number; notAfter: number },
  now: Instant,
  random: number,
): Due {
  const received = Math.min(receivedAt, now.wall)
  const share = EARLIEST_SHARE + (LATEST_SHARE - EARLIEST_SHARE) * random
  const wall = received + Math.max((notAfter - received) * share, SHORTEST_WAIT_MS)
  return dueIn(wall - now.wall, now)
}

export const dueIn = (ms: number, now: Instant): Due => ({
  wall: now.wall + ms,
  monotonic: now.monotonic + ms,
})

/** How long to sleep before looking at both clocks again: 0 when it is due. */
export function untilDue(due: Due, now: Instant): number {
  const left = Math.min(due.wall - now.wall, due.monotonic - now.monotonic)
  return Math.min(Math.max(left, 0), LONGEST_WAIT_MS)
}

/** Backoff after `failures` failures in a row (1 or more), given what is left of the present certificate's life. */
export function untilRetry(failures: number, lifeLeftMs: number, random: number): number {
  const cap =
    lifeLeftMs > 0
      ? Math.min(Math.max(lifeLeftMs / ATTEMPTS_LEFT, RETRY_BASE_MS), RETRY_CAP_MS)
      : RETRY_CAP_EXPIRED_MS
  return backoffMs({ baseMs: RETRY_BASE_MS, capMs: cap }, failures - 1, random)
}

// When what an endpoint said is worth a write of the ConfigMap, which has the bundles of all partners in it: an endpoint that
// says something else each minute must not have it rewritten each minute. In between, the loop that asks remembers what it
// learnt; whoever leads next learns it anew.
import { isDeepStrictEqual } from 'node:util'
import type { FetchedBundle } from '../../shared/federation/fetched.ts'

/** `free`: whose change it is has been paced before (judge.ts), or it is an operator's. `paid`: one of few. */
export type Worth = 'nothing' | 'free' | 'paid'

/** Of one partner's loop. */
export type WritePace = {
  /** What is known, of what is written: what another wrote since holds. */
  known(written: FetchedBundle | undefined): FetchedBundle | undefined
  worthOf(written: FetchedBundle | undefined, now: FetchedBundle): Worth
  /** This holds now, and was written unless it was worth nothing. */
  settle(now: FetchedBundle, worth: Worth): void
}

/** Six at once, then one in ten minutes. */
const PAID_MS = 10 * 60_000
const MOST_OWED_MS = 6 * PAID_MS
/** That all is as it was is written so often, for its age. */
const CONFIRMED_MS = 4 * 60_000

export function createWritePace(monotonic: () => number): WritePace {
  let written: FetchedBundle | undefined
  let latest: FetchedBundle | undefined
  let writtenAt = Number.NEGATIVE_INFINITY
  let owedUntil = Number.NEGATIVE_INFINITY
  const owed = (at: number) => Math.max(owedUntil, at)
  return {
    known: present => (isDeepStrictEqual(present, written) ? latest : present),
    worthOf: (present, now) => {
      if (!present || present.url !== now.url || !isDeepStrictEqual(present.roots, now.roots)) return 'free'
      const at = monotonic()
      const isConfirmation = isDeepStrictEqual({ ...present, fetchedAt: now.fetchedAt }, now)
      if (isConfirmation) return at - writtenAt < CONFIRMED_MS ? 'nothing' : 'free'
      return owed(at) + PAID_MS > at + MOST_OWED_MS ? 'nothing' : 'paid'
    },
    settle: (now, worth) => {
      latest = now
      if (worth === 'nothing') return
      written = now
      writtenAt = monotonic()
      if (worth === 'paid') owedUntil = owed(writtenAt) + PAID_MS
    },
  }
}

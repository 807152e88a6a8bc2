// No connection takes new streams beyond the certificates that it was made with, whichever end's expires first. Live
// streams go on: what ends those at once is a removed root (closePeers).
import type { Clock } from '../../shared/clock.ts'

/** The wall clock may be set, and no timer is that long. */
const RECHECK_MS = 3_600_000

/** Calls `retire` when the first of the two has expired, unless `closed` comes before. */
export async function retireAtExpiry(
  [own, peers]: readonly [own: Date, peers: Date],
  clock: Clock,
  closed: AbortSignal,
  retire: () => void,
): Promise<void> {
  const left = () => Math.min(own.getTime(), peers.getTime()) - clock.now()
  while (!closed.aborted && left() > 0) {
    await clock.sleep(Math.min(left(), RECHECK_MS), closed).catch(() => undefined)
  }
  if (!closed.aborted) retire()
}

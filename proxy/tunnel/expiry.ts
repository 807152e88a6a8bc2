// No connection takes new streams beyond the certificates that it was made with, whichever end's expires first. Live
// streams go on: what ends those at once is a removed root (closePeers).
import type { Http2Session } from 'node:http2'
import type { Clock } from '../../shared/clock.ts'

/** The wall clock may be set, and no timer is that long. */
const RECHECK_MS = 3_600_000

/** Calls `retire` when the first of the two has expired, unless the session closes before. */
export async function retireAtExpiry(
  session: Http2Session,
  [own, peers]: readonly [own: Date, peers: Date],
  clock: Clock,
  retire: () => void,
): Promise<void> {
  const over = new AbortController()
  session.once('close', () => over.abort())
  const left = () => Math.min(own.getTime(), peers.getTime()) - clock.now()
  while (!over.signal.aborted && left() > 0) {
    await clock.sleep(Math.min(left(), RECHECK_MS), over.signal).catch(() => undefined)
  }
  if (!over.signal.aborted) retire()
}

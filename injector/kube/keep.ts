// Keeps something in the cluster as it should be: at once, after each change of what it follows, and every half minute,
// whoever edits or deletes it.
import { backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Live } from '../../shared/live.ts'

export type Keeping = {
  readonly follows: Pick<Live<unknown>, 'subscribe'>
  readonly clock: Clock
  readonly random: () => number
}

const RECHECK_MS = 30_000
const RETRY = { baseMs: 500, capMs: 15_000 }

/** Runs until aborted. `step` tells whether all is right now; if not, it comes again with backoff. It never rejects. */
export async function keep(
  { follows, clock, random }: Keeping,
  step: () => Promise<boolean>,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0
  let wake = new AbortController()
  const stop = follows.subscribe(() => wake.abort())
  try {
    while (!signal.aborted) {
      wake = new AbortController()
      failures = (await step()) ? 0 : failures + 1
      const pause = failures === 0 ? RECHECK_MS : backoffMs(RETRY, failures - 1, random())
      await clock.sleep(pause, AbortSignal.any([signal, wake.signal])).catch(() => undefined)
    }
  } finally {
    stop()
  }
}

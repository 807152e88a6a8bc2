// Time as an argument: everything that waits or compares times takes a Clock, so that tests can step it.
import { setTimeout as delay } from 'node:timers/promises'

export type Clock = {
  /** Wall time, milliseconds since the epoch; steps when the machine's clock is corrected. */
  now(): number
  /** Monotonic milliseconds from an arbitrary start. */
  monotonic(): number
  /** Resolves after `ms` (at most 2^31-1: a longer setTimeout would fire at once); rejects when aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>
}

const MAX_TIMEOUT_MS = 2 ** 31 - 1

export const systemClock: Clock = {
  now: Date.now,
  monotonic: () => performance.now(),
  sleep: (ms, signal) => delay(Math.min(Math.max(ms, 0), MAX_TIMEOUT_MS), undefined, { signal }),
}

// Waits by both clocks: the wall clock may be set meanwhile, and the monotonic one stops in suspend.
import type { Clock } from '../../shared/clock.ts'
import { type Due, type Instant, untilDue } from './schedule.ts'

export const instantOf = (clock: Clock): Instant => ({ wall: clock.now(), monotonic: clock.monotonic() })

/** @throws the abort reason */
export async function waitUntil(due: Due, clock: Clock, signal: AbortSignal): Promise<void> {
  for (let wait = untilDue(due, instantOf(clock)); wait > 0; wait = untilDue(due, instantOf(clock))) {
    await clock.sleep(wait, signal)
  }
}

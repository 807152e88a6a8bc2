// How much one sidecar may say: each line costs the injector time, and any pod with a certificate may send lines without
// end. Whoever says more than its share is not refused but read later, and its own connection holds it back.
import type { Clock } from '../../shared/clock.ts'

/** A sidecar that knows 10,000 addresses says 250 KB when it meets another. */
export const PACE = {
  burstBytes: 4 * 1024 * 1024,
  bytesPerSecond: 1024 * 1024,
  leastBytes: 2 * 1024,
} as const

/** Takes the length of a line that was read; returns how long to wait before the next is. */
export function createPace({ monotonic }: Pick<Clock, 'monotonic'>): (length: number) => number {
  const { burstBytes, bytesPerSecond, leastBytes } = PACE
  let owed = 0
  let at = monotonic()
  return length => {
    const now = monotonic()
    owed = Math.max(0, owed - ((now - at) / 1000) * bytesPerSecond) + Math.max(length, leastBytes)
    at = now
    return owed <= burstBytes ? 0 : Math.ceil(((owed - burstBytes) / bytesPerSecond) * 1000)
  }
}

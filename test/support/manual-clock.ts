// A clock that stands still until a test moves it on: whoever sleeps wakes when its time has come.
import type { Clock } from '../../shared/clock.ts'

export type ManualClock = Clock & { advance(ms: number): void }

export function manualClock(start: number): ManualClock {
  let passed = 0
  const sleepers = new Set<{ readonly until: number; readonly wake: () => void }>()
  return {
    now: () => start + passed,
    monotonic: () => passed,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const sleeper = { until: passed + ms, wake: resolve }
        sleepers.add(sleeper)
        const abort = () => {
          sleepers.delete(sleeper)
          reject(signal.reason)
        }
        if (signal.aborted) abort()
        else signal.addEventListener('abort', abort, { once: true })
      }),
    advance: ms => {
      passed += ms
      for (const sleeper of [...sleepers])
        if (sleeper.until <= passed) {
          sleepers.delete(sleeper)
          sleeper.wake()
        }
    },
  }
}

// A clock that jumps: sleeping takes no time but moves both clocks on, so that a day of waits is tested in milliseconds
// while sockets and files stay real.
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../../shared/clock.ts'

export type SteppingClock = Clock & {
  /** Every sleep that was asked for, in order. */
  readonly sleeps: readonly number[]
  advance(ms: number): void
}

export function steppingClock(start = Date.now()): SteppingClock {
  let passed = 0
  const sleeps: number[] = []
  return {
    sleeps,
    now: () => start + passed,
    monotonic: () => passed,
    sleep: async (ms, signal) => {
      signal.throwIfAborted()
      sleeps.push(ms)
      await turn(undefined, { signal })
      passed += ms
    },
    advance: ms => {
      passed += ms
    },
  }
}

// A clock that jumps: sleeping takes no time but moves both clocks on, so that a day of waits is tested in milliseconds
// while sockets and files stay real. Its wall clock can be set, and its machine can be suspended, in the midst of a wait.
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../../shared/clock.ts'

export type SteppingClock = Clock & {
  /** Every sleep that was asked for, in order. */
  readonly sleeps: readonly number[]
  advance(ms: number): void
  /** Sets the wall clock forward or back, now or once so much monotonic time has passed. */
  step(byMs: number, atMs?: number): void
  /** Time passes that the monotonic clock does not count, and timers do not either. */
  suspend(forMs: number, atMs?: number): void
  /** What a clock would say that nobody has set. */
  truth(): number
}

export function steppingClock(start = Date.now()): SteppingClock {
  let [passed, off, asleep] = [0, 0, 0]
  const sleeps: number[] = []
  const planned: { readonly atMs: number; readonly happen: () => void }[] = []
  const plan = (atMs: number, happen: () => void) => {
    planned.push({ atMs, happen })
    pass(0)
  }
  const pass = (ms: number) => {
    passed += ms
    for (const one of planned.filter(({ atMs }) => atMs <= passed)) {
      planned.splice(planned.indexOf(one), 1)
      one.happen()
    }
  }
  const truth = () => start + passed + asleep
  return {
    sleeps,
    truth,
    now: () => truth() + off,
    monotonic: () => passed,
    sleep: async (ms, signal) => {
      signal.throwIfAborted()
      sleeps.push(ms)
      await turn(undefined, { signal })
      pass(ms)
    },
    advance: pass,
    step: (byMs, atMs = passed) =>
      plan(atMs, () => {
        off += byMs
      }),
    suspend: (forMs, atMs = passed) =>
      plan(atMs, () => {
        asleep += forMs
      }),
  }
}

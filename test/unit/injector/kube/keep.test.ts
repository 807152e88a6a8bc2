import t from 'tap'
import { keep } from '../../../../injector/kube/keep.ts'
import type { Clock } from '../../../../shared/clock.ts'
import { live } from '../../../../shared/live.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

t.test('a check each half minute, failures with backoff in between, until the end', async t => {
  const clock = steppingClock()
  const end = new AbortController()
  const outcomes = [true, false, false, false, true, true]
  const step = async () => {
    const outcome = outcomes.shift()
    if (outcomes.length === 0) end.abort()
    return outcome ?? true
  }
  await keep({ follows: live(0), clock, random: () => 1 }, step, end.signal)
  t.same(clock.sleeps.slice(0, 5), [30_000, 500, 1_000, 2_000, 30_000])
})

t.test('a change is seen at once, also one that comes during a check', async t => {
  const source = live(0)
  const end = new AbortController()
  const seen: number[] = []
  const forever: Clock = {
    ...steppingClock(),
    sleep: (_, signal) =>
      new Promise((_, reject) => {
        if (signal.aborted) reject(signal.reason)
        signal.addEventListener('abort', () => reject(signal.reason))
      }),
  }
  const step = async () => {
    seen.push(source.get())
    if (seen.length === 1) source.set(1)
    if (seen.length === 2) setImmediate(() => source.set(2))
    if (seen.length === 3) end.abort()
    return true
  }
  await keep({ follows: source, clock: forever, random: () => 1 }, step, end.signal)
  t.same(seen, [0, 1, 2])
})

// Keys to work on, each by one worker at a time, a few at once, failures again after a capped backoff. A key that is
// added while it waits is done once; while it is worked on, once more afterwards.
import { type Backoff, backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'

export type WorkQueue = { add(key: string): void }

export type WorkQueueOptions = {
  readonly concurrency: number
  readonly retry: Backoff
  readonly clock: Clock
  /** Ends all work; nothing is started or retried afterwards. */
  readonly signal: AbortSignal
  readonly random: () => number
  readonly onError: (key: string, error: unknown) => void
}

export function workQueue(handle: (key: string) => Promise<void>, options: WorkQueueOptions): WorkQueue {
  const { concurrency, retry, clock, signal, random, onError } = options
  const waiting = new Set<string>()
  const active = new Set<string>()
  const failures = new Map<string, number>()

  const again = (key: string, error: unknown) => {
    if (signal.aborted) return
    const attempt = failures.get(key) ?? 0
    failures.set(key, attempt + 1)
    onError(key, error)
    clock.sleep(backoffMs(retry, attempt, random()), signal).then(
      () => add(key),
      () => undefined,
    )
  }
  const work = async (key: string) => {
    try {
      await handle(key)
      failures.delete(key)
    } catch (error) {
      again(key, error)
    } finally {
      active.delete(key)
      pump()
    }
  }
  const pump = () => {
    for (const key of waiting) {
      if (signal.aborted || active.size >= concurrency) return
      if (active.has(key)) continue
      waiting.delete(key)
      active.add(key)
      void work(key)
    }
  }
  const add = (key: string) => {
    waiting.add(key)
    pump()
  }
  return { add }
}

// Keys to work on, each by one worker at a time, a few at once, failures again after a capped backoff. A key that is
// added while it waits is done once; while it is worked on, once more afterwards. Whoever shares a turn waits for each other
// and for nobody else: however many keys one namespace adds, another's next key is next but one.
import { type Backoff, backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'

export type WorkQueue = { add(key: string): void }

export type WorkQueueOptions = {
  /** Turns are taken in a circle by what this says of the key. */
  readonly turnOf: (key: string) => string
  readonly concurrency: number
  readonly retry: Backoff
  readonly clock: Clock
  /** Ends all work; nothing is started or retried afterwards. */
  readonly signal: AbortSignal
  readonly random: () => number
  readonly onError: (key: string, error: unknown) => void
}

export function workQueue(handle: (key: string) => Promise<void>, options: WorkQueueOptions): WorkQueue {
  const { turnOf, concurrency, retry, clock, signal, random, onError } = options
  /** By turn, the next one first. */
  const waiting = new Map<string, Set<string>>()
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
  /** Its turn, if other keys of it are left, comes after all others. */
  const takeNext = (): string | undefined => {
    for (const [turn, keys] of waiting) {
      const key = keys.values().find(waits => !active.has(waits))
      if (key === undefined) continue
      keys.delete(key)
      waiting.delete(turn)
      if (keys.size > 0) waiting.set(turn, keys)
      return key
    }
    return undefined
  }
  const pump = () => {
    while (!signal.aborted && active.size < concurrency) {
      const key = takeNext()
      if (key === undefined) return
      active.add(key)
      void work(key)
    }
  }
  const add = (key: string) => {
    waiting.getOrInsertComputed(turnOf(key), () => new Set()).add(key)
    pump()
  }
  return { add }
}

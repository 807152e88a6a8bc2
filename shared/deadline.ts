// Waits that end in time, by the Clock that tests can step, or when a signal aborts.
import type { Clock } from './clock.ts'
import type { EndSignal } from './ending.ts'

export type Deadline = {
  readonly clock: Clock
  readonly ms: number
  readonly signal: AbortSignal
  /** What is reported when the time is up. */
  readonly late: string
}

/** The work's own result; an Error with `late` as its message if it failed because the time was up. */
export async function withDeadline<T>(
  { clock, ms, signal, late }: Deadline,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const done = new AbortController()
  const expired = new AbortController()
  clock.sleep(ms, AbortSignal.any([signal, done.signal])).then(
    () => expired.abort(new Error(late)),
    () => undefined,
  )
  try {
    return await work(AbortSignal.any([signal, expired.signal]))
  } catch (thrown) {
    throw expired.signal.aborted ? expired.signal.reason : thrown
  } finally {
    done.abort()
  }
}

/** The promise's result, or the signal's reason if that comes first. The promise goes on. */
export function unless<T>(signal: EndSignal, promise: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', onAbort))
}

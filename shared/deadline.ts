// Work that must end in time, by the Clock that tests can step: the work's signal aborts when the time is up.
import type { Clock } from './clock.ts'

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

// How a process of ours ends and what keeps running until then: one AbortSignal for shutdown, loops that outlive
// their failures, and a drain that has a deadline.
import { type Backoff, backoffMs } from './backoff.ts'
import type { Clock } from './clock.ts'

/** Aborts at the first SIGTERM or SIGINT; the same again ends the process at once. */
export function shutdownSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => controller.abort(new Error(`received ${name}`)))
  }
  return controller.signal
}

export type Supervision = {
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly random: () => number
  readonly backoff: Backoff
  onFailure(thrown: unknown): void
}

/**
 * Runs `work` again and again until `signal` aborts. A run that fails, or lasts less than the longest wait, is
 * followed by a growing one.
 */
export async function supervise(
  work: (signal: AbortSignal) => Promise<void>,
  { signal, clock, random, backoff, onFailure }: Supervision,
): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    const started = clock.monotonic()
    try {
      await work(signal)
    } catch (thrown) {
      if (signal.aborted) return
      onFailure(thrown)
    }
    if (clock.monotonic() - started > backoff.capMs) attempt = 0
    await clock.sleep(backoffMs(backoff, attempt, random()), signal).catch(() => {})
  }
}

/** Whether `work` ended within `ms`; it goes on if not. */
export async function endsWithin(work: Promise<unknown>, ms: number, clock: Clock): Promise<boolean> {
  const done = new AbortController()
  const late = clock.sleep(ms, done.signal).then(
    () => false,
    () => true,
  )
  try {
    return await Promise.race([work.then(() => true), late])
  } finally {
    done.abort()
  }
}

// How a process of ours ends: one AbortSignal for shutdown, and a drain that has a deadline.
import type { Clock } from './clock.ts'

/**
 * Aborts at the first SIGTERM or SIGINT; the same again ends the process at once, except in a container, whose process 1
 * the kernel spares: there it takes the kubelet's SIGKILL.
 */
export function shutdownSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => controller.abort(new Error(`received ${name}`)))
  }
  return controller.signal
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

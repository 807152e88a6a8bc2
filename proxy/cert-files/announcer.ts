// Tells the application of each change of its files, through its hook, until it has answered once. What it was told of is
// kept over a restart of the sidecar, which may come between the change and the answer.
import { backoffMs } from '../../shared/backoff.ts'
import type { Hook } from '../../shared/cert-files.ts'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, type PosternError } from '../../shared/errors.ts'
import type { StateVolume } from '../credentials/state-volume.ts'
import type { CertFilesEvent } from './events.ts'
import { callHook } from './hook.ts'

/** About two minutes in all: an application that is restarting reads the new files anyway. */
const MAX_ATTEMPTS = 8
const BACKOFF = { baseMs: 1_000, capMs: 60_000 }

export type AnnouncerOptions = {
  /** Absent: nobody is told. */
  readonly hook: Hook | undefined
  readonly volume: StateVolume
  readonly clock: Clock
  readonly random: () => number
  readonly observe: (event: CertFilesEvent) => void
}

export class Announcer {
  readonly #options: AnnouncerOptions
  #under = new AbortController()

  constructor(options: AnnouncerOptions) {
    this.#options = options
  }

  /** Whether it was told of this generation, by this process or one before. */
  async isTold(directory: string): Promise<boolean> {
    const kept = Object(await this.#options.volume.read('cert-files.json'))
    return Reflect.get(kept, 'told') === directory
  }

  /** It reads this one by itself as it starts. */
  async knows(directory: string): Promise<void> {
    if (this.#options.hook) await this.#options.volume.write('cert-files.json', { told: directory })
  }

  /** Returns at once; what was still to be told of a generation before is dropped. */
  tell(directory: string, signal: AbortSignal): void {
    const { hook } = this.#options
    if (!hook) return
    this.#under.abort()
    this.#under = new AbortController()
    void this.#attempts(hook, directory, AbortSignal.any([signal, this.#under.signal]))
  }

  async #attempts(hook: Hook, directory: string, signal: AbortSignal): Promise<void> {
    const { clock, random, observe } = this.#options
    observe({ kind: 'hook-due' })
    for (let attempt = 1; !signal.aborted; attempt++) {
      const error = await this.#call(hook, attempt, signal)
      if (signal.aborted) return
      if (!error) return this.knows(directory)
      const retryMs = attempt < MAX_ATTEMPTS ? backoffMs(BACKOFF, attempt - 1, random()) : undefined
      observe({ kind: 'hook-failed', error, attempt, ...(retryMs !== undefined && { retryMs }) })
      if (retryMs === undefined) return
      await clock.sleep(retryMs, signal).catch(() => {})
    }
  }

  /** What was wrong, if it did not answer. */
  async #call(hook: Hook, attempt: number, signal: AbortSignal): Promise<PosternError | undefined> {
    const { clock, observe } = this.#options
    const started = clock.monotonic()
    try {
      await callHook(hook, signal)
      observe({ kind: 'hook-answered', attempt, tookMs: Math.round(clock.monotonic() - started) })
      return undefined
    } catch (thrown) {
      return asPosternError(thrown, 'PSTN_CERT_HOOK_FAILED')
    }
  }
}

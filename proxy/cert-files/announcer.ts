// Tells the application of each change of its files, through its hook, until it has answered once. What it was told of is
// kept over a restart of the sidecar, which may come between the change and the answer.
import { backoffMs } from '../../shared/backoff.ts'
import type { Hook } from '../../shared/cert-files.ts'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, type PosternError } from '../../shared/errors.ts'
import type { StateVolume } from '../credentials/state-volume.ts'
import type { CertFilesEvent } from './events.ts'
import { callHook } from './hook.ts'
import type { Generation } from './volume.ts'

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
  #calls: Promise<void> = Promise.resolve()
  #known: Generation | undefined

  constructor(options: AnnouncerOptions) {
    this.#options = options
  }

  /** What the application has, as far as can be known: without a hook that is what stands in its files. */
  get known(): Generation | undefined {
    return this.#known
  }

  /** The process before may have ended between a change and the answer. */
  async resume(found: Generation, signal: AbortSignal): Promise<void> {
    const kept = Object(await this.#options.volume.read('cert-files.json'))
    if (Reflect.get(kept, 'told') === found.directory) this.#known = found
    else await this.tell(found, signal)
  }

  /** The application reads this one by itself as it starts. */
  async knows(generation: Generation): Promise<void> {
    this.#known = generation
    const { hook, volume } = this.#options
    if (hook) await volume.write('cert-files.json', { told: generation.directory })
  }

  /** Does not wait for the answer; what was still to be told of a generation before is dropped. */
  async tell(generation: Generation, signal: AbortSignal): Promise<void> {
    const { hook } = this.#options
    if (!hook) return this.knows(generation)
    this.#under.abort()
    this.#under = new AbortController()
    const attempts = this.#attempts(hook, generation, AbortSignal.any([signal, this.#under.signal]))
    this.#calls = this.#calls.then(() => attempts)
  }

  /** Resolves once nobody is asked any more and nothing is written: soon, after an abort. */
  async settled(): Promise<void> {
    await this.#calls
  }

  async #attempts(hook: Hook, generation: Generation, signal: AbortSignal): Promise<void> {
    const { clock, random, observe } = this.#options
    observe({ kind: 'hook-due' })
    for (let attempt = 1; !signal.aborted; attempt++) {
      const error = await this.#call(hook, attempt, signal)
      if (signal.aborted) return
      if (!error) return this.knows(generation)
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

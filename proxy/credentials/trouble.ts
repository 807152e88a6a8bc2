// How often a source's failures are told: it is looked at each second, and a line for each look would bury the first. What
// lasts only as long as somebody needs to write two files is not told at all.
import type { Clock } from '../../shared/clock.ts'
import type { Code, PosternError } from '../../shared/errors.ts'
import type { Credential } from './credential.ts'
import type { IssuanceEvent } from './csr-source.ts'
import { untilRetry } from './schedule.ts'

/** Longer than anybody takes to write a key and a chain, or an agent to restart. */
export const SETTLE_MS = 5_000

type Told = { readonly code: Code; readonly at: number; readonly againAt: number; readonly failures: number }

export type TroubleContext = {
  readonly clock: Clock
  readonly random: () => number
  readonly observe: (event: IssuanceEvent) => void
}

export class Trouble {
  readonly #context: TroubleContext
  readonly #lifeLeftMs: () => number
  #since: number | undefined
  #told: Told | undefined

  /** `lifeLeftMs`: of the certificate that is held; 0 without one. */
  constructor(context: TroubleContext, lifeLeftMs: () => number) {
    this.#context = context
    this.#lifeLeftMs = lifeLeftMs
  }

  /** Whether it was time to. */
  tell(error: PosternError): boolean {
    const { clock, random, observe } = this.#context
    const now = clock.monotonic()
    this.#since ??= now
    const lifeLeftMs = this.#lifeLeftMs()
    if (now < this.#due(error.code, this.#since, lifeLeftMs)) return false
    const failures = (this.#told?.failures ?? 0) + 1
    const retryMs = untilRetry(failures, lifeLeftMs, random())
    this.#told = { code: error.code, at: now, againAt: now + retryMs, failures }
    observe({ kind: 'failed', error, failures, retryMs, lifeLeftMs })
    return true
  }

  #due(code: Code, since: number, lifeLeftMs: number): number {
    const told = this.#told
    // Without a certificate whoever waits for the pod wants to know why at once.
    if (!told) return lifeLeftMs > 0 ? since + SETTLE_MS : since
    return told.code === code ? told.againAt : told.at + SETTLE_MS
  }

  /** What is held is all right again. */
  over(credential: Credential): void {
    if (this.#told) this.#context.observe({ kind: 'recovered', credential })
    this.forget()
  }

  /** A new credential says it. */
  forget(): void {
    this.#since = undefined
    this.#told = undefined
  }
}

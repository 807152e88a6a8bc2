// Tokens that were found good, by their hash, until they end or what they were judged by changes. Bad ones are not kept: whoever
// sends those could fill it.
import { hash } from 'node:crypto'
import { ChurnMap } from '../../shared/churn.ts'
import type { TrustedKey } from '../../shared/jwt/verify.ts'
import type { EndUser } from '../../shared/policy/end-user.ts'
import type { JwtRule } from '../../shared/policy/request-authentication.ts'

export type Verified = {
  readonly user: EndUser
  readonly rule: JwtRule
  readonly key: TrustedKey
  /** Milliseconds since the epoch. */
  readonly endsAt: number
}

const MAX_TOKENS = 4_096
/** Of all tokens that are kept, together: their claims take about as much. */
const MAX_LENGTH = 2 * 1024 * 1024

type Entry = { readonly verified: Verified; readonly length: number }

export class VerifiedTokens {
  #entries = new ChurnMap<string, Entry>()
  #length = 0

  /** `place` is where it was found: in another it may be believed by another rule, or by none. */
  get(place: string, token: string, now: number): Verified | undefined {
    const name = nameOf(place, token)
    const entry = this.#entries.get(name)
    if (entry === undefined) return undefined
    if (entry.verified.endsAt > now) return entry.verified
    this.#forget(name, entry)
    return undefined
  }

  add(place: string, token: string, verified: Verified): void {
    this.#entries.set(nameOf(place, token), { verified, length: token.length })
    this.#length += token.length
    while (this.#entries.size > MAX_TOKENS || this.#length > MAX_LENGTH) {
      const oldest = this.#entries.first()
      if (oldest === undefined) break
      this.#forget(...oldest)
    }
  }

  clear(): void {
    this.#entries = new ChurnMap()
    this.#length = 0
  }

  get size(): number {
    return this.#entries.size
  }

  #forget(name: string, { length }: Entry): void {
    if (this.#entries.delete(name)) this.#length -= length
  }
}

const nameOf = (place: string, token: string): string => hash('sha256', `${place}\n${token}`, 'base64')

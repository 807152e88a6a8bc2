// Credentials that something else makes and rotates: looked at again and again, taken when they are new and fit, and told of
// when they do not. Nothing can be asked for here, so that what is at hand is kept as long as it is good.
import type { Clock } from '../../shared/clock.ts'
import type { ClockSkew } from '../../shared/clock-skew.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { Credential, CredentialSource } from './credential.ts'
import type { IssuanceEvent } from './csr-source.ts'
import { checkOffer, isSameOffer, type Offer, type TakenOffer } from './offer.ts'
import { untilRetry } from './schedule.ts'
import type { StateVolume } from './state-volume.ts'
import { Trouble } from './trouble.ts'
import type { TrustStore } from './trust.ts'

/** What the source says now. */
export type Supply =
  /** Nothing yet. */
  | { readonly kind: 'awaited' }
  | { readonly kind: 'offered'; readonly offer: Offer }
  /** It cannot tell. What is held stays. */
  | { readonly kind: 'failed'; readonly error: PosternError }
  /** This pod has the identity no more: what is held must not be used either. */
  | { readonly kind: 'withdrawn'; readonly error: PosternError }

export type Supplier = {
  /** For the log. */
  readonly name: string
  read(): Promise<Supply>
  /** Resolves when `read` may say something else; without it, looking now and then must do. */
  changed?(signal: AbortSignal): Promise<void>
  /** What is held is overdue: asks again, where that is possible. */
  renew?(): void
}

export type OfferedSourceOptions = {
  readonly identity: SpiffeId
  readonly trust: TrustStore
  readonly volume: StateVolume
  readonly clock: Clock
  readonly skew: ClockSkew
  readonly random: () => number
  readonly observe: (event: IssuanceEvent) => void
}

/** `open`: until the signal aborts. */
export function offeredCredentials(
  open: (signal: AbortSignal) => Supplier,
  options: OfferedSourceOptions,
): CredentialSource<Credential | undefined> {
  return async function* credentials(signal) {
    const supplier = open(signal)
    const intake = new Intake(supplier, options)
    try {
      if (await intake.restore()) yield intake.credential
      for (;;) {
        if (await intake.look(await supplier.read(), signal)) yield intake.credential
        await nextLook(supplier, options.clock, signal)
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown
    }
  }
}

/** Reading a few KB costs nothing; a watch would be one of 128 that the kernel gives all sidecars of a node together. */
const LOOK_MS = 1_000

async function nextLook(supplier: Supplier, clock: Clock, signal: AbortSignal): Promise<void> {
  const done = new AbortController()
  const over = AbortSignal.any([signal, done.signal])
  const looks = [clock.sleep(LOOK_MS, over), ...(supplier.changed ? [supplier.changed(over)] : [])]
  await Promise.race(looks).finally(() => done.abort())
}

type Held = {
  readonly credential: Credential
  readonly receivedAt: number
  /** As the source wrote it; of one that was restored not known. */
  offer?: Offer
}

/** Of the time from receipt to notAfter: whoever rotates does so at a half or two thirds. */
const OVERDUE_SHARE = 0.8

class Intake {
  readonly #supplier: Supplier
  readonly #options: OfferedSourceOptions
  readonly #trouble: Trouble
  #generation = 0
  #held: Held | undefined
  /** With what the held one was last judged. */
  #judgedBy: TrustBundle | undefined
  /** The trust bundle was read for this one, and when to read it for the same one again. */
  #refused: { readonly offer: Offer; readonly attempts: number; readonly againAt: number } | undefined

  constructor(supplier: Supplier, options: OfferedSourceOptions) {
    this.#supplier = supplier
    this.#options = options
    this.#trouble = new Trouble(options, () => this.#lifeLeftMs())
  }

  /** Undefined: there is none that may be used. */
  get credential(): Credential | undefined {
    return this.#held?.credential
  }

  /** What the last process of this container left, if it is still good. */
  async restore(): Promise<boolean> {
    const { volume, trust, clock, observe } = this.#options
    const stored = storedOf(await volume.read('credential.json'))
    if (!stored || !trust.bundle.get()) return false
    try {
      // A clock that was set back since must not cost what was good when it came.
      const taken = this.#check(stored, Math.max(clock.now(), stored.receivedAt))
      this.#held = { credential: this.#next(taken), receivedAt: Math.min(stored.receivedAt, clock.now()) }
    } catch {
      return false
    }
    const { credential, receivedAt } = this.#held
    observe({ kind: 'restored', credential, receivedAt })
    return true
  }

  /** Whether there is another credential than before, or none any more. */
  async look(supply: Supply, signal: AbortSignal): Promise<boolean> {
    switch (supply.kind) {
      case 'awaited':
        return false
      case 'failed':
        this.#trouble.tell(supply.error)
        return false
      case 'withdrawn':
        return this.#withdraw(supply.error)
      case 'offered':
        return this.#consider(supply.offer, signal)
    }
  }

  async #withdraw(error: PosternError): Promise<boolean> {
    if (!this.#held) {
      this.#trouble.tell(error)
      return false
    }
    this.#held = undefined
    this.#trouble.forget()
    await this.#options.volume.remove('credential.json')
    this.#options.observe({ kind: 'withdrawn', error })
    return true
  }

  async #consider(offer: Offer, signal: AbortSignal): Promise<boolean> {
    try {
      if (!isSameOffer(this.#held?.offer, offer) && (await this.#take(offer, signal))) return true
      const flaw = this.#flaw()
      if (flaw) throw flaw
      if (this.#held) this.#trouble.over(this.#held.credential)
      return false
    } catch (thrown) {
      signal.throwIfAborted()
      const told = this.#trouble.tell(asPosternError(thrown, 'PSTN_SOURCE_INVALID'))
      if (told) this.#supplier.renew?.()
      return false
    }
  }

  /** Whether it is another one than is held. @throws PosternError if it does not do, and what is held stays. */
  async #take(offer: Offer, signal: AbortSignal): Promise<boolean> {
    const { clock, volume, observe } = this.#options
    const taken = await this.#checkedAnew(offer, signal)
    this.#refused = undefined
    const { key, chain } = taken
    if (this.#held?.credential.key === key && this.#held.credential.chain === chain) {
      this.#held.offer = offer
      return false
    }
    this.#held = { credential: this.#next(taken), receivedAt: clock.now(), offer }
    this.#trouble.forget()
    await volume.write('credential.json', { key, chain, receivedAt: this.#held.receivedAt })
    observe({ kind: 'taken', credential: this.#held.credential, from: this.#supplier.name })
    void this.#options.trust.refresh(signal).catch(() => {}) // as with every renewal; the one in force did
    return true
  }

  /** Roots may have been added that this sidecar has not heard of. */
  async #checkedAnew(offer: Offer, signal: AbortSignal): Promise<TakenOffer> {
    const { clock, trust } = this.#options
    try {
      return this.#check(offer, clock.now())
    } catch (thrown) {
      const before = trust.bundle.get()
      if (!(await this.#refreshTrust(offer, signal)) || trust.bundle.get() === before) throw thrown
      return this.#check(offer, clock.now())
    }
  }

  async #refreshTrust(offer: Offer, signal: AbortSignal): Promise<boolean> {
    const { clock, random, trust } = this.#options
    const again = isSameOffer(this.#refused?.offer, offer) ? this.#refused : undefined
    if (again && clock.monotonic() < again.againAt) return false
    const attempts = (again?.attempts ?? 0) + 1
    const againAt = clock.monotonic() + untilRetry(attempts, this.#lifeLeftMs(), random())
    this.#refused = { offer, attempts, againAt }
    try {
      await trust.refresh(signal)
      return true
    } catch (thrown) {
      if (!trust.bundle.get()) throw thrown
      return false
    }
  }

  #check(offer: Offer, now: number): TakenOffer {
    const { identity, trust, skew } = this.#options
    const bundle = trust.bundle.get()
    if (!bundle) throw new PosternError('PSTN_TRUST_INVALID', 'no trust bundle could be read yet')
    return checkOffer(offer, { identity, roots: bundle.roots, now, skewMs: skew.ms })
  }

  #next(taken: TakenOffer): Credential {
    this.#generation += 1
    this.#judgedBy = this.#options.trust.bundle.get()
    return { generation: this.#generation, identity: this.#options.identity, ...taken }
  }

  /** Why what is held will not do much longer, though it is what the source still offers. */
  #flaw(): PosternError | undefined {
    if (!this.#held) return undefined
    const { credential, receivedAt } = this.#held
    const { clock, trust } = this.#options
    const bundle = trust.bundle.get()
    if (bundle !== this.#judgedBy) {
      this.#check(credential, clock.now())
      this.#judgedBy = bundle
    }
    const end = credential.notAfter.getTime()
    if (clock.now() < receivedAt + (end - receivedAt) * OVERDUE_SHARE) return undefined
    const { serial, notAfter } = credential
    const why = `nothing follows certificate ${serial}, which expires ${notAfter.toISOString()}`
    return new PosternError('PSTN_SOURCE_OVERDUE', `${this.#supplier.name}: ${why}`)
  }

  #lifeLeftMs(): number {
    return Math.max((this.#held?.credential.notAfter.getTime() ?? 0) - this.#options.clock.now(), 0)
  }
}

function storedOf(value: unknown): (Offer & { readonly receivedAt: number }) | undefined {
  const { key, chain, receivedAt } = (value ?? {}) as Record<string, unknown>
  if (typeof key !== 'string' || typeof chain !== 'string' || typeof receivedAt !== 'number') return undefined
  return { key, chain, receivedAt }
}

// Certificates from the Kubernetes CSR API. Renewal needs the API server and the signer, never the mesh, so that an
// expired sidecar recovers by itself; whatever fails, a valid certificate is kept, and so is a request under way.
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import type { ClockSkew } from '../../shared/clock-skew.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { CSR_SLOTS, csrName } from '../../shared/names.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { checkIssuedChain, describeSkew, type IssuedChain } from '../../shared/x509/answer.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import type { Credential, CredentialSource } from './credential.ts'
import { askedSeconds, awaitAnswer, type CsrApi, type PendingRequest, submit } from './csr-request.ts'
import { isTrusted, watchDistrust } from './distrust.ts'
import { type EarlyRenewal, NEVER_EARLY, watchEarlyRenewal } from './early-renewal.ts'
import { dueIn, planRenewal, untilRetry } from './schedule.ts'
import type { StateVolume } from './state-volume.ts'
import type { TrustStore } from './trust.ts'
import { instantOf, waitUntil } from './wait.ts'

/** For log, metrics and readiness. `failures` counts those in a row. */
export type IssuanceEvent =
  | { readonly kind: 'restored'; readonly credential: Credential; readonly receivedAt: number }
  | {
      readonly kind: 'issued'
      readonly credential: Credential
      readonly name: string
      readonly tookMs: number
    }
  | {
      readonly kind: 'failed'
      readonly error: PosternError
      readonly failures: number
      readonly retryMs: number
      /** What is left of the present certificate; 0 if it has expired, is trusted no more, or there is none. */
      readonly lifeLeftMs: number
    }
  /** Of a source that cannot be asked: whoever rotates it has made another one. `from` names the source. */
  | { readonly kind: 'taken'; readonly credential: Credential; readonly from: string }
  /** Of such a source: after failures that were told, what it has is what is held, and will do. */
  | { readonly kind: 'recovered'; readonly credential: Credential }
  /** It has taken the identity back: the certificate is used no more, however long it is valid. */
  | { readonly kind: 'withdrawn'; readonly error: PosternError }
  /** A certificate was taken, by a clock that will not do for every one: PSTN_CLOCK_SKEW, with how far it is off. */
  | { readonly kind: 'skewed'; readonly error: PosternError }

export type CsrSourceOptions = CsrApi & {
  readonly identity: SpiffeId
  readonly trust: TrustStore
  readonly volume: StateVolume
  readonly skew: ClockSkew
  /** Absent: nobody asks for it before the time. */
  readonly early?: EarlyRenewal
  readonly random: () => number
  readonly observe: (event: IssuanceEvent) => void
}

/** How long to poll for an answer before it counts as a failure. */
export const CSR_TIMEOUT_MS = 60_000

/**
 * Every sidecar of the mesh hears in the same moment that its root is revoked, and is cut off until it has another certificate:
 * long enough for a thousand not to dial the API server at once, short beside what signing for them takes.
 */
const DISTRUST_SPREAD_MS = 2_000

/** What our signer backdates: a clock that is further off is told of even where it does no harm yet. */
const TOLERATED_SKEW_MS = 300_000

/** A credential with what the next one needs to know. As a file it is without `credential` but for key and chain. */
type Held = {
  readonly credential: Credential
  readonly receivedAt: number
  readonly slot: number
  /** The order to renew that was known when it was asked for. */
  readonly renewedFor: string | undefined
}

/** What a request was answered with: PEM, not checked. */
type Answered = { readonly pending: PendingRequest; readonly chain: string }

export function csrCredentialSource(options: CsrSourceOptions): CredentialSource {
  return async function* credentials(signal) {
    const issuance = new Issuance(options)
    try {
      let held = await issuance.restore()
      if (held) yield held.credential
      for (;;) {
        if (held) await renewalOf(held, options, signal)
        held = await issuance.obtain(held, signal)
        yield held.credential
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown
    }
  }
}

/** Waits until the next one is due, nobody would take this one any more, or somebody asks for another. */
async function renewalOf(
  { receivedAt, renewedFor, credential }: Held,
  options: CsrSourceOptions,
  signal: AbortSignal,
) {
  const { clock, random, trust, early = NEVER_EARLY } = options
  const { serial, chain } = credential
  // A signer that gives more life than was asked for does not make a key live longer.
  const notAfter = Math.min(credential.notAfter.getTime(), receivedAt + askedSeconds(options) * 1000)
  const due = planRenewal({ receivedAt, notAfter }, instantOf(clock), random())
  using distrust = watchDistrust(chain, trust.bundle)
  using hurry = watchEarlyRenewal({ serial, receivedAt, renewedFor }, early, { clock, random })
  const soonest = AbortSignal.any([signal, distrust.signal, hurry.signal])
  await waitUntil(due, clock, soonest).catch(() => signal.throwIfAborted())
  if (distrust.signal.aborted)
    await waitUntil(dueIn(DISTRUST_SPREAD_MS * random(), instantOf(clock)), clock, signal)
}

/** The sequence of credentials of one process. */
class Issuance {
  readonly #options: CsrSourceOptions
  #generation = 0
  #pending: PendingRequest | undefined
  /** The first answer that our clock does not let us take yet: its time comes, that of ever newer ones would not. */
  #early: Answered | undefined

  constructor(options: CsrSourceOptions) {
    this.#options = options
  }

  /** What the last process of this container left: a credential that is still good, and a request under way. */
  async restore(): Promise<Held | undefined> {
    const { volume, trust, clock, observe } = this.#options
    this.#pending = pendingOf(await volume.read('pending.json'))
    const stored = storedOf(await volume.read('credential.json'))
    if (!stored || !trust.bundle.get()) return undefined
    try {
      // A clock that was set back since must not cost what was good when it came.
      const credential = this.#accept(stored.key, stored.chain, Math.max(clock.now(), stored.receivedAt))
      const receivedAt = Math.min(stored.receivedAt, clock.now())
      observe({ kind: 'restored', credential, receivedAt })
      return { credential, slot: stored.slot, receivedAt, renewedFor: stored.renewedFor }
    } catch {
      return undefined // expired, or of another identity: what comes next replaces it
    }
  }

  /** The next credential, however many attempts it takes. Rejects only when aborted. */
  async obtain(held: Held | undefined, signal: AbortSignal): Promise<Held> {
    const { clock, random, trust, observe } = this.#options
    const lifeLeft = () =>
      held && isTrusted(held.credential.chain, trust.bundle.get())
        ? Math.max(held.credential.notAfter.getTime() - clock.now(), 0)
        : 0
    for (let failures = 1; ; failures++) {
      try {
        return await this.#attempt(held ? held.slot + 1 : 0, signal)
      } catch (thrown) {
        signal.throwIfAborted()
        const error = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
        const retryMs = untilRetry(failures, lifeLeft(), random())
        observe({ kind: 'failed', error, failures, retryMs, lifeLeftMs: lifeLeft() })
        await waitUntil(dueIn(retryMs, instantOf(clock)), clock, signal)
      }
    }
  }

  async #attempt(nextSlot: number, signal: AbortSignal): Promise<Held> {
    const { clock, podUid, early = NEVER_EARLY, observe } = this.#options
    const renewedFor = early.order.get()?.before
    const started = clock.monotonic()
    const answered = this.#ripe() ?? (await this.#answer(nextSlot, signal))
    const { key, slot } = answered.pending
    try {
      await this.#refreshTrust(signal)
      const credential = this.#accept(key, answered.chain, clock.now())
      const held = { credential, slot, receivedAt: clock.now(), renewedFor }
      await this.#save(held)
      const tookMs = Math.round(clock.monotonic() - started)
      observe({ kind: 'issued', credential, name: csrName(podUid, slot), tookMs })
      this.#tellSkew()
      return held
    } catch (thrown) {
      if (isSkew(thrown)) this.#early ??= answered
      if (isFinal(thrown)) await this.#keep(this.#fresh(slot + 1))
      throw thrown
    }
  }

  #ripe(): Answered | undefined {
    const early = this.#early
    if (!early) return undefined
    try {
      this.#check(early.pending.key, early.chain, this.#options.clock.now())
      return early
    } catch (thrown) {
      if (!isSkew(thrown)) this.#early = undefined
      return undefined
    }
  }

  async #answer(nextSlot: number, signal: AbortSignal): Promise<Answered> {
    const asked = this.#pending ?? (await this.#keep(this.#fresh(nextSlot)))
    const slot = await submit(this.#options, asked, signal)
    const pending = slot === asked.slot ? asked : await this.#keep({ ...asked, slot })
    try {
      return { pending, chain: await awaitAnswer(this.#options, slot, signal) }
    } catch (thrown) {
      if (isFinal(thrown)) await this.#keep(this.#fresh(slot + 1))
      throw thrown
    }
  }

  #tellSkew(): void {
    const { skew, observe } = this.#options
    if (skew.ms === undefined || Math.abs(skew.ms) < TOLERATED_SKEW_MS) return
    observe({
      kind: 'skewed',
      error: new PosternError('PSTN_CLOCK_SKEW', `our clock is ${describeSkew(skew.ms)}`),
    })
  }

  #fresh(slot: number): PendingRequest {
    const keys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
    return {
      slot: slot % CSR_SLOTS,
      key: keys.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
      request: createCsr(keys, this.#options.identity),
    }
  }

  async #keep(pending: PendingRequest): Promise<PendingRequest> {
    this.#pending = pending
    await this.#options.volume.write('pending.json', pending)
    return pending
  }

  /** The bundle in force is good enough when a newer one cannot be had. */
  async #refreshTrust(signal: AbortSignal): Promise<void> {
    const { trust } = this.#options
    try {
      await trust.refresh(signal)
    } catch (thrown) {
      if (!trust.bundle.get()) throw thrown
    }
  }

  #accept(key: string, chainPem: string, now: number): Credential {
    const issued = this.#check(key, chainPem, now)
    this.#generation += 1
    return { generation: this.#generation, identity: this.#options.identity, key, ...issued }
  }

  #check(key: string, chainPem: string, now: number): IssuedChain {
    const { identity, trust, skew } = this.#options
    const publicKey = createPublicKey(createPrivateKey(key))
    const roots = trust.bundle.get()?.roots ?? []
    return checkIssuedChain({ chainPem, publicKey, identity, roots, now, skewMs: skew.ms })
  }

  async #save({ credential: { key, chain }, receivedAt, slot, renewedFor }: Held): Promise<void> {
    const { volume } = this.#options
    this.#pending = undefined
    this.#early = undefined
    await volume.write('credential.json', { key, chain, receivedAt, slot, renewedFor })
    await volume.remove('pending.json')
  }
}

/** Answers that stay what they are: only a request with a new key and name can fare better. */
function isFinal(thrown: unknown): boolean {
  const { code } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
  return (
    code === 'PSTN_CSR_DENIED' ||
    code === 'PSTN_CSR_FAILED' ||
    code === 'PSTN_CSR_ANSWER_INVALID' ||
    code === 'PSTN_CLOCK_SKEW'
  )
}

const isSkew = (thrown: unknown): boolean =>
  asPosternError(thrown, 'PSTN_API_UNAVAILABLE').code === 'PSTN_CLOCK_SKEW'

type Stored = {
  readonly key: string
  readonly chain: string
  readonly receivedAt: number
  readonly slot: number
  readonly renewedFor: string | undefined
}

function storedOf(value: unknown): Stored | undefined {
  const { key, chain, receivedAt, slot, renewedFor } = (value ?? {}) as Record<string, unknown>
  if (typeof key !== 'string' || typeof chain !== 'string') return undefined
  if (typeof receivedAt !== 'number' || !isSlot(slot)) return undefined
  return { key, chain, receivedAt, slot, renewedFor: typeof renewedFor === 'string' ? renewedFor : undefined }
}

function pendingOf(value: unknown): PendingRequest | undefined {
  const { key, request, slot } = (value ?? {}) as Record<string, unknown>
  if (!isPrivateKey(key) || typeof request !== 'string' || !isSlot(slot)) return undefined
  return { key, request, slot }
}

function isPrivateKey(value: unknown): value is string {
  try {
    return typeof value === 'string' && createPrivateKey(value).type === 'private'
  } catch {
    return false
  }
}

const isSlot = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) < CSR_SLOTS

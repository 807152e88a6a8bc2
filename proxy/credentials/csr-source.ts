// Certificates from the Kubernetes CSR API. Renewal needs the API server and the signer, never the mesh, so that an
// expired sidecar recovers by itself; whatever fails, a valid certificate is kept, and so is a request under way.
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import { asPosternError, type PosternError } from '../../shared/errors.ts'
import { CSR_SLOTS, csrName } from '../../shared/names.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { checkIssuedChain } from '../../shared/x509/answer.ts'
import { createCsr } from '../../shared/x509/csr.ts'
import type { Credential, CredentialSource } from './credential.ts'
import { awaitAnswer, type CsrApi, type PendingRequest, submit } from './csr-request.ts'
import { type Instant, planRenewal, untilRenewal, untilRetry } from './schedule.ts'
import type { StateVolume } from './state-volume.ts'
import type { TrustStore } from './trust.ts'

/** For log, metrics and readiness. `failures` counts those in a row. */
export type IssuanceEvent =
  | { readonly kind: 'restored'; readonly credential: Credential }
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
      /** What is left of the present certificate; 0 if it has expired or there is none. */
      readonly lifeLeftMs: number
    }

export type CsrSourceOptions = CsrApi & {
  readonly identity: SpiffeId
  readonly trust: TrustStore
  readonly volume: StateVolume
  readonly random: () => number
  readonly observe: (event: IssuanceEvent) => void
}

/** How long to poll for an answer before it counts as a failure. */
export const CSR_TIMEOUT_MS = 60_000

/** A credential with what the next one needs to know. As a file it is without `credential` but for key and chain. */
type Held = { readonly credential: Credential; readonly receivedAt: number; readonly slot: number }

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

async function renewalOf(
  held: Held,
  { clock, random }: CsrSourceOptions,
  signal: AbortSignal,
): Promise<void> {
  const now = (): Instant => ({ wall: clock.now(), monotonic: clock.monotonic() })
  const notAfter = held.credential.notAfter.getTime()
  const due = planRenewal({ receivedAt: held.receivedAt, notAfter }, now(), random())
  for (let wait = untilRenewal(due, now()); wait > 0; wait = untilRenewal(due, now())) {
    await clock.sleep(wait, signal)
  }
}

/** The sequence of credentials of one process. */
class Issuance {
  readonly #options: CsrSourceOptions
  #generation = 0
  #pending: PendingRequest | undefined

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
      const credential = this.#accept(stored.key, stored.chain)
      observe({ kind: 'restored', credential })
      return { credential, slot: stored.slot, receivedAt: Math.min(stored.receivedAt, clock.now()) }
    } catch {
      return undefined // expired, or of another identity: what comes next replaces it
    }
  }

  /** The next credential, however many attempts it takes. Rejects only when aborted. */
  async obtain(held: Held | undefined, signal: AbortSignal): Promise<Held> {
    const { clock, random, observe } = this.#options
    const lifeLeft = () => Math.max((held?.credential.notAfter.getTime() ?? 0) - clock.now(), 0)
    for (let failures = 1; ; failures++) {
      try {
        return await this.#attempt(held ? held.slot + 1 : 0, signal)
      } catch (thrown) {
        signal.throwIfAborted()
        const error = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
        const retryMs = untilRetry(failures, lifeLeft(), random())
        observe({ kind: 'failed', error, failures, retryMs, lifeLeftMs: lifeLeft() })
        await clock.sleep(retryMs, signal)
      }
    }
  }

  async #attempt(nextSlot: number, signal: AbortSignal): Promise<Held> {
    const { clock, podUid, observe } = this.#options
    const started = clock.monotonic()
    const pending = this.#pending ?? (await this.#keep(this.#fresh(nextSlot)))
    const slot = await submit(this.#options, pending, signal)
    if (slot !== pending.slot) await this.#keep({ ...pending, slot })
    try {
      const chain = await awaitAnswer(this.#options, slot, signal)
      await this.#refreshTrust(signal)
      const credential = this.#accept(pending.key, chain)
      const held = { credential, slot, receivedAt: clock.now() }
      await this.#save(held)
      const tookMs = Math.round(clock.monotonic() - started)
      observe({ kind: 'issued', credential, name: csrName(podUid, slot), tookMs })
      return held
    } catch (thrown) {
      if (isFinal(thrown)) await this.#keep(this.#fresh(slot + 1))
      throw thrown
    }
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

  #accept(key: string, chainPem: string): Credential {
    const { identity, trust, clock } = this.#options
    const publicKey = createPublicKey(createPrivateKey(key))
    const roots = trust.bundle.get()?.roots ?? []
    const issued = checkIssuedChain({ chainPem, publicKey, identity, roots, now: clock.now() })
    this.#generation += 1
    return { generation: this.#generation, identity, key, ...issued }
  }

  async #save({ credential, receivedAt, slot }: Held): Promise<void> {
    const { volume } = this.#options
    this.#pending = undefined
    await volume.write('credential.json', { key: credential.key, chain: credential.chain, receivedAt, slot })
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

type Stored = {
  readonly key: string
  readonly chain: string
  readonly receivedAt: number
  readonly slot: number
}

function storedOf(value: unknown): Stored | undefined {
  const { key, chain, receivedAt, slot } = (value ?? {}) as Record<string, unknown>
  if (typeof key !== 'string' || typeof chain !== 'string') return undefined
  if (typeof receivedAt !== 'number' || !isSlot(slot)) return undefined
  return { key, chain, receivedAt, slot }
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

// What is said and done while one control stream is open. A session ends by a failure, by the age of its certificate,
// or because the injector may have been verified with a root that is trusted no more.
import type { Clock } from '../../shared/clock.ts'
import {
  type FromInjector,
  type Hello,
  STATUS_EXTENSIONS,
  type State,
  type Status,
  type StatusExtensions,
} from '../../shared/control/messages.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { type Live, live, type Settable, until } from '../../shared/live.ts'
import { NOBODY_REVOKED, refuseRevoked, revocationCheck } from '../../shared/revocation.ts'
import { anchorsOf } from '../../shared/tls/chain.ts'
import type { VerifiedPeer } from '../../shared/tls/peer-verifier.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import type { Credential } from '../credentials/credential.ts'
import type { TrustStore } from '../credentials/trust.ts'
import type { ControlStream } from './control-stream.ts'
import type { Directory } from './directory.ts'
import { withKept } from './kept-state.ts'

export type ControlEvent =
  | { readonly kind: 'connected'; readonly injector: VerifiedPeer }
  | { readonly kind: 'applied'; readonly version: number }
  /** The pushed or published trust bundle was not taken; the last good one stays. */
  | { readonly kind: 'trust-refused'; readonly error: PosternError }
  | { readonly kind: 'lost'; readonly error: PosternError; readonly retryMs: number }

export type SessionContext = {
  readonly hello: Omit<Hello, 'kind'>
  readonly credential: Live<Credential | undefined>
  /** How renewal goes. */
  readonly renewal: () => StatusExtensions
  readonly trust: TrustStore
  /** Roots that the pod's application trusts too, where it has them from us: PEM. A root counts once both do. */
  readonly alsoTrusted?: (() => readonly string[]) | undefined
  readonly directory: Directory
  readonly state: Settable<State | undefined>
  readonly clock: Clock
  readonly random: () => number
  readonly observe: (event: ControlEvent) => void
  readonly heartbeatMs: number
  readonly lostAfterMs: number
}

const SWEEP_MS = 60_000
/**
 * A new address is subscribed to at once, the next ones are gathered. Each message is the full set, so the time grows with
 * it: an application that scans the cluster costs 150 KB a second, and its new addresses wait for one at most.
 */
const GATHER_MS = 50
const GATHERED_PER_MS = 10
/** A stream is replaced in the last tenth of its certificate's life; rotation alone does not disturb it. */
const STREAM_LIFE = 0.9

export class ControlSession {
  readonly #context: SessionContext
  readonly #stream: ControlStream
  /** Of the last state applied: versions count anew on each stream. */
  #version = 0
  #heardAt: number
  readonly #ending = new AbortController()

  constructor(context: SessionContext, stream: ControlStream) {
    this.#context = context
    this.#stream = stream
    this.#heardAt = context.clock.monotonic()
  }

  get wasUseful(): boolean {
    return this.#version > 0
  }

  /** Resolves when it is time for a new stream. @param own with which this one was authenticated. @throws PosternError when this one fails, or the abort reason. */
  async hold(own: Credential, signal: AbortSignal): Promise<void> {
    const { hello, clock, random } = this.#context
    const over = AbortSignal.any([signal, this.#ending.signal])
    const life = (own.notAfter.getTime() - clock.now()) * (STREAM_LIFE + (1 - STREAM_LIFE) * random())
    this.#stream.send({ kind: 'hello', ...hello })
    this.#subscribe()
    this.#report()
    try {
      await Promise.race([
        this.#receive(),
        this.#beat(over),
        this.#followAddresses(over),
        this.#sweep(over),
        clock.sleep(life, over),
        this.#untrusted(over),
      ])
    } finally {
      this.#ending.abort()
    }
  }

  async #receive(): Promise<never> {
    for await (const message of this.#stream.received()) {
      this.#heardAt = this.#context.clock.monotonic()
      this.#apply(message)
    }
    throw new PosternError('PSTN_CONTROL_LOST', 'the stream ended')
  }

  #apply(message: FromInjector): void {
    switch (message.kind) {
      case 'addresses':
        this.#context.directory.receive(message.entries)
        break
      case 'state':
        this.#applyState(message)
        break
    }
  }

  #applyState(message: State): void {
    const { state, observe } = this.#context
    if (message.version <= this.#version) {
      const versions = `${message.version} after ${this.#version}`
      throw new PosternError('PSTN_CONTROL_MALFORMED', `the state’s version does not grow: ${versions}`)
    }
    this.#version = message.version
    this.#adopt(message)
    state.set(withKept(message, state.get()))
    refuseInjector(this.#stream.injector, state.get())
    this.#report()
    observe({ kind: 'applied', version: message.version })
  }

  #adopt({ trust: bundles, retired = [], revokedRoots: revoked = [] }: State): void {
    const { trust, observe } = this.#context
    try {
      trust.adopt(bundles, { retired, revoked }, this.#ending.signal)
    } catch (thrown) {
      observe({ kind: 'trust-refused', error: asPosternError(thrown, 'PSTN_TRUST_INVALID') })
    }
  }

  #report(): void {
    const { credential, renewal } = this.#context
    const own = credential.get()
    const status: Status = {
      kind: 'status',
      stateVersion: this.#version,
      roots: this.#roots(),
      ...(own && { certificateSerial: own.serial, certificateNotAfter: own.notAfter.toISOString() }),
      ...onlyKnown(renewal(), this.#stream.features()),
    }
    this.#stream.send(status)
  }

  #roots(): readonly string[] {
    const { trust, alsoTrusted } = this.#context
    const ours = fingerprints(trust.bundle.get()?.roots ?? [])
    if (!alsoTrusted) return ours
    const also = fingerprints(alsoTrusted())
    return ours.filter(root => also.includes(root))
  }

  /** Returns how long to gather before the next. */
  #subscribe(): number {
    const addresses = this.#context.directory.wanted()
    this.#stream.send({ kind: 'subscribe', addresses })
    return Math.max(GATHER_MS, addresses.length / GATHERED_PER_MS)
  }

  async #beat(over: AbortSignal): Promise<never> {
    const { clock, heartbeatMs, lostAfterMs } = this.#context
    for (;;) {
      await clock.sleep(heartbeatMs, over)
      const silentMs = clock.monotonic() - this.#heardAt
      if (silentMs > lostAfterMs) {
        throw new PosternError('PSTN_CONTROL_LOST', `the injector was silent for ${Math.round(silentMs)} ms`)
      }
      this.#report()
    }
  }

  async #followAddresses(over: AbortSignal): Promise<never> {
    const { directory, clock } = this.#context
    const changes = live(0)
    const stop = directory.onWanted(() => changes.set(changes.get() + 1))
    try {
      for (let sent = 0; ; ) {
        sent = await until(changes, (count): count is number => count > sent, over)
        await clock.sleep(this.#subscribe(), over)
      }
    } finally {
      stop()
    }
  }

  /** Only while connected: what is given up can be learnt again. */
  async #sweep(over: AbortSignal): Promise<never> {
    const { directory, clock } = this.#context
    for (;;) {
      await clock.sleep(SWEEP_MS, over)
      directory.sweep()
    }
  }

  /** Of all sidecars the injector must hear at once only from those that it has to convince anew. */
  async #untrusted(over: AbortSignal): Promise<void> {
    const isUntrusted = (roots: readonly string[]): roots is readonly string[] =>
      !this.#stream.leadsTo(anchorsOf(roots))
    await until(this.#context.trust.vouching, isUntrusted, over)
  }
}

const fingerprints = (roots: readonly string[]): string[] =>
  roots.map(root => parseCertificate(root).fingerprint256)

/**
 * By its serial alone: whoever refused the injector's identity or pod could never be told that it is lifted.
 * @throws PosternError PSTN_PEER_REVOKED
 */
export function refuseInjector({ serial }: VerifiedPeer, state: State | undefined): void {
  refuseRevoked(revocationCheck(state?.revoked ?? NOBODY_REVOKED), { serial })
}

/** Injectors refuse keys that they do not know. */
function onlyKnown(extensions: StatusExtensions, known: readonly string[]): StatusExtensions {
  const sent = { ...extensions }
  for (const key of STATUS_EXTENSIONS) if (!known.includes(key)) delete sent[key]
  return sent
}

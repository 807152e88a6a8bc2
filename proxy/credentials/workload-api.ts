// Credentials from the SPIFFE Workload API (a SPIRE agent, or anything that speaks it): one stream of full states over a
// Unix socket, opened again whenever it ends. What the statuses mean to a client: SPIFFE Workload Endpoint, section 6.
import { backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { type Code, PosternError } from '../../shared/errors.ts'
import { live, until } from '../../shared/live.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { GRPC, GrpcError, serverStream } from './grpc.ts'
import type { Offer } from './offer.ts'
import type { Supplier, Supply } from './offered-source.ts'
import { svidFor } from './workload-api-message.ts'

export type WorkloadApiOptions = {
  readonly identity: SpiffeId
  /** Path of the agent's Unix socket. */
  readonly socket: string
  readonly clock: Clock
  readonly random: () => number
}

const METHOD = '/SpiffeWorkloadAPI/FetchX509SVID'
/** Section 3: what a request forged through somebody else's HTTP client would not carry. */
const METADATA = { 'workload.spiffe.io': 'true' }

/** A stream that held as long is opened again at once when it ends (SPIFFE Workload API, section 4.2). */
const STABLE_MS = 10_000
const BACKOFF = { baseMs: 1_000, capMs: 30_000 }
/** For a status after which no client should try again: an agent may be replaced by a better one while this pod lives. */
const HOPELESS_MS = 300_000
/** Until the first message: a SPIRE agent asks the kubelet for the caller's pod up to half a minute. */
const FIRST_ANSWER_MS = 60_000
/** How long an agent that has just started may not know this pod before it means it. */
const MISSING_FOR_GOOD_MS = 60_000

export function workloadApi(options: WorkloadApiOptions, signal: AbortSignal): Supplier {
  const client = new WorkloadApiClient(options)
  void client.run(signal)
  return client
}

class WorkloadApiClient implements Supplier {
  readonly name: string
  readonly #options: WorkloadApiOptions
  readonly #said = live<Supply>({ kind: 'awaited' })
  #stream = new AbortController()
  /** It has given our SVID on the present stream. */
  #hasGiven = false
  /** Since when it has said nothing else. */
  #missingSince: number | undefined
  /** It was on the stream that had given it. */
  #isTakenBack = false

  constructor(options: WorkloadApiOptions) {
    this.#options = options
    this.name = `unix://${options.socket}`
  }

  read = async (): Promise<Supply> => {
    const said = this.#said.get()
    if (said.kind !== 'failed') return said
    const missingMs = this.#options.clock.monotonic() - (this.#missingSince ?? Number.POSITIVE_INFINITY)
    const isMeant = this.#isTakenBack || missingMs >= MISSING_FOR_GOOD_MS
    return { kind: isMeant ? 'withdrawn' : 'failed', error: said.error }
  }

  changed = async (signal: AbortSignal): Promise<void> => {
    const before = this.#said.get()
    await until(this.#said, (now): now is Supply => now !== before, signal)
  }

  /** The agent should have sent another SVID by now: perhaps it hangs. */
  renew = (): void => this.#stream.abort()

  async run(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options
    for (let failures = 0; !signal.aborted; ) {
      const opened = clock.monotonic()
      const isHopeless = await this.#follow(signal)
      if (signal.aborted) return
      failures = clock.monotonic() - opened >= STABLE_MS ? 0 : failures + 1
      const pauseMs = failures === 0 ? 0 : backoffMs(BACKOFF, failures - 1, random())
      await clock.sleep(isHopeless ? HOPELESS_MS : pauseMs, signal).catch(() => {})
    }
  }

  /** One stream to its end. Returns whether it is of no use to open another. */
  async #follow(signal: AbortSignal): Promise<boolean> {
    const { socket, clock } = this.#options
    this.#stream = new AbortController()
    this.#hasGiven = false
    const renewed = this.#stream.signal
    const over = AbortSignal.any([signal, renewed])
    const silent = new AbortController()
    let isHeard = false
    clock.sleep(FIRST_ANSWER_MS, over).then(
      () => isHeard || silent.abort(),
      () => {},
    )
    try {
      const call = { socket, method: METHOD, metadata: METADATA }
      for await (const message of serverStream(call, AbortSignal.any([over, silent.signal]))) {
        isHeard = true
        this.#hear(message)
      }
      this.#unreachable('the agent ended the stream')
    } catch (thrown) {
      if (over.aborted) return false
      if (thrown instanceof GrpcError) return this.#refused(thrown)
      this.#unreachable(silent.signal.aborted ? `no answer for ${FIRST_ANSWER_MS} ms` : messageOf(thrown))
    } finally {
      this.#stream.abort()
    }
    return false
  }

  /** A message that breaks the rules is discarded: what was said before still holds. */
  #hear(message: Buffer): void {
    const { identity } = this.#options
    try {
      const offer = svidFor(identity, message)
      if (offer) this.#give(offer)
      else this.#miss(`it has SVIDs for this pod, but none of ${identity}`)
    } catch (thrown) {
      this.#fail('PSTN_SOURCE_INVALID', messageOf(thrown))
    }
  }

  #give(offer: Offer): void {
    this.#hasGiven = true
    this.#missingSince = undefined
    this.#isTakenBack = false
    this.#said.set({ kind: 'offered', offer })
  }

  #refused(error: GrpcError): boolean {
    if (error.status === GRPC.permissionDenied) {
      this.#miss(`${this.#options.identity} is denied: ${error.message}`)
      return false
    }
    this.#unreachable(error.message)
    return error.status === GRPC.invalidArgument || error.status === GRPC.unimplemented
  }

  #miss(why: string): void {
    this.#missingSince ??= this.#options.clock.monotonic()
    this.#isTakenBack ||= this.#hasGiven
    this.#fail('PSTN_SOURCE_NO_IDENTITY', `the Workload API: ${why}`)
  }

  /** Whether the identity is missing is not known any more. */
  #unreachable(why: string): void {
    this.#missingSince = undefined
    this.#fail('PSTN_SOURCE_UNAVAILABLE', `the Workload API: ${why}`)
  }

  #fail(code: Code, why: string): void {
    this.#said.set({ kind: 'failed', error: new PosternError(code, why) })
  }
}

const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))

// Credentials from the SPIFFE Workload API (a SPIRE agent, or anything that speaks it): one stream of full states over a
// Unix socket, opened again whenever it ends. What the statuses mean to a client: SPIFFE Workload Endpoint, section 6.
import { backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { PosternError } from '../../shared/errors.ts'
import { live, until } from '../../shared/live.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { GRPC, GrpcError, serverStream } from './grpc.ts'
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
const DENIED_FOR_GOOD_MS = 60_000

export function workloadApi(options: WorkloadApiOptions, signal: AbortSignal): Supplier {
  const client = new WorkloadApiClient(options)
  void client.run(signal)
  return client
}

class WorkloadApiClient implements Supplier {
  readonly name: string
  readonly #options: WorkloadApiOptions
  readonly #supply = live<Supply>({ kind: 'awaited' })
  #stream = new AbortController()
  /** Since when every new stream has been denied. */
  #deniedSince: number | undefined

  constructor(options: WorkloadApiOptions) {
    this.#options = options
    this.name = `unix://${options.socket}`
  }

  read = async (): Promise<Supply> => this.#supply.get()

  changed = async (signal: AbortSignal): Promise<void> => {
    const before = this.#supply.get()
    await until(this.#supply, (now): now is Supply => now !== before, signal)
  }

  /** The agent should have sent another SVID by now: perhaps it hangs. */
  renew = (): void => this.#stream.abort()

  async run(signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options
    for (let failures = 0; !signal.aborted; ) {
      const opened = clock.monotonic()
      const { supply, isHopeless } = await this.#follow(signal)
      if (signal.aborted) return
      if (supply) this.#supply.set(supply)
      failures = clock.monotonic() - opened >= STABLE_MS ? 0 : failures + 1
      const waitMs = isHopeless
        ? HOPELESS_MS
        : failures === 0
          ? 0
          : backoffMs(BACKOFF, failures - 1, random())
      await clock.sleep(waitMs, signal).catch(() => {})
    }
  }

  /** One stream to its end, and how it ended. */
  async #follow(signal: AbortSignal): Promise<Ending> {
    const { socket, identity, clock } = this.#options
    this.#stream = new AbortController()
    const over = AbortSignal.any([signal, this.#stream.signal])
    let wasOffered = false
    let wasHeard = false
    const silent = new AbortController()
    clock.sleep(FIRST_ANSWER_MS, over).then(
      () => wasHeard || silent.abort(),
      () => {},
    )
    try {
      const call = { socket, method: METHOD, metadata: METADATA }
      for await (const message of serverStream(call, AbortSignal.any([over, silent.signal]))) {
        wasHeard = true
        this.#deniedSince = undefined
        const supply = supplyOf(identity, message)
        wasOffered ||= supply.kind === 'offered'
        this.#supply.set(supply)
      }
      return { supply: { kind: 'failed', error: unavailable('the agent ended the stream') } }
    } catch (thrown) {
      if (this.#stream.signal.aborted) return {} // renewed
      if (thrown instanceof GrpcError) return this.#refused(thrown, wasOffered)
      const why = silent.signal.aborted ? `no answer for ${FIRST_ANSWER_MS} ms` : messageOf(thrown)
      return { supply: { kind: 'failed', error: unavailable(why) } }
    } finally {
      this.#stream.abort()
    }
  }

  #refused(error: GrpcError, wasOffered: boolean): Ending {
    if (error.status !== GRPC.permissionDenied) {
      this.#deniedSince = undefined
      const isHopeless = error.status === GRPC.invalidArgument || error.status === GRPC.unimplemented
      return { supply: { kind: 'failed', error: unavailable(error.message) }, isHopeless }
    }
    const now = this.#options.clock.monotonic()
    this.#deniedSince ??= now
    const isMeant = wasOffered || now - this.#deniedSince >= DENIED_FOR_GOOD_MS
    const denied = noIdentity(`${this.#options.identity} is denied: ${error.message}`)
    return { supply: { kind: isMeant ? 'withdrawn' : 'failed', error: denied } }
  }
}

type Ending = { readonly supply?: Supply; readonly isHopeless?: boolean }

const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))

const unavailable = (why: string): PosternError =>
  new PosternError('PSTN_SOURCE_UNAVAILABLE', `the Workload API: ${why}`)

const noIdentity = (why: string): PosternError =>
  new PosternError('PSTN_SOURCE_NO_IDENTITY', `the Workload API: ${why}`)

/** A message that breaks the rules is discarded: what was said before still holds. */
function supplyOf(identity: SpiffeId, message: Buffer): Supply {
  try {
    const offer = svidFor(identity, message)
    if (offer) return { kind: 'offered', offer }
    return { kind: 'withdrawn', error: noIdentity(`it has SVIDs for this pod, but none of ${identity}`) }
  } catch (thrown) {
    const error = new PosternError('PSTN_SOURCE_INVALID', messageOf(thrown))
    return { kind: 'failed', error }
  }
}

// The HTTP/1.1 gate between two byte streams that are only memory: a test hands it chunks and sees at once what it passes on.
import { gateHttp1 } from '../../proxy/gate/http1/gate.ts'
import type { Gated, GateOptions, RequestOutcome } from '../../proxy/gate/interface.ts'
import type { ByteStream, Sink } from '../../proxy/tunnel/byte-stream.ts'
import type { HttpRequest } from '../../shared/policy/model.ts'

/** One end of a connection, seen from the test. */
export class MemoryStream implements ByteStream {
  readonly written: Buffer[] = []
  /** What `write` answers. */
  accepts = true
  paused = false
  ended = false
  wasReset = false
  #sink: Sink | undefined
  #queue: Buffer[] = []
  #theirEnd = false
  #theirEndTold = false
  #closed = false

  open(sink: Sink): void {
    this.#sink = sink
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    queueMicrotask(() => this.#deliver())
  }

  write(chunk: Buffer): boolean {
    if (this.ended || this.wasReset) throw new Error('written after the end')
    this.written.push(Buffer.from(chunk))
    return this.accepts
  }

  end(): void {
    this.ended = true
    queueMicrotask(() => this.#closeIfOver())
  }

  reset(): void {
    this.wasReset = true
    queueMicrotask(() => this.#close('reset'))
  }

  get text(): string {
    return Buffer.concat(this.written).toString('latin1')
  }

  /** The other side sends. */
  send(text: string | Buffer): void {
    this.#queue.push(typeof text === 'string' ? Buffer.from(text, 'latin1') : Buffer.from(text))
    this.#deliver()
  }

  /** The other side ends its direction. */
  sendEnd(): void {
    this.#theirEnd = true
    this.#deliver()
  }

  sendReset(): void {
    this.#close('reset')
  }

  drain(): void {
    this.accepts = true
    this.#sink?.drain()
  }

  #deliver(): void {
    while (!this.paused && !this.#closed) {
      const chunk = this.#queue.shift()
      if (chunk === undefined) break
      this.#sink?.data(chunk)
    }
    if (this.paused || this.#closed || this.#queue.length > 0 || !this.#theirEnd || this.#theirEndTold) return
    this.#theirEndTold = true
    this.#sink?.end()
    this.#closeIfOver()
  }

  #closeIfOver(): void {
    if (this.ended && this.#theirEndTold) this.#close('ended')
  }

  #close(how: 'ended' | 'reset'): void {
    if (this.#closed) return
    this.#closed = true
    this.#sink?.closed(how)
  }
}

export type GateInMemory = {
  readonly caller: MemoryStream
  readonly application: MemoryStream
  readonly asked: HttpRequest[]
  readonly outcomes: RequestOutcome[]
  readonly traffic: GateOptions['traffic']
  /** What a new policy does to every live request. */
  revoke(why: Parameters<Parameters<GateOptions['authorize']>[1]>[0]): void
  readonly live: () => number
  readonly result: Promise<Gated>
}

export type InMemoryOptions = Partial<
  Pick<
    GateOptions,
    | 'signal'
    | 'draining'
    | 'authenticator'
    | 'forwardedClientCert'
    | 'headTimeoutMs'
    | 'lingerMs'
    | 'readsHeaders'
  >
> & {
  readonly allow?: (request: HttpRequest) => boolean
}

export function gateInMemory({ allow = () => true, ...options }: InMemoryOptions = {}): GateInMemory {
  const [caller, application] = [new MemoryStream(), new MemoryStream()]
  const asked: HttpRequest[] = []
  const outcomes: RequestOutcome[] = []
  const live = new Set<Parameters<GateOptions['authorize']>[1]>()
  const traffic = { aToB: 0, bToA: 0 }
  const result = gateHttp1(caller, application, {
    signal: new AbortController().signal,
    forwardedClientCert: undefined,
    now: () => 0,
    traffic,
    onRequest: outcome => outcomes.push(outcome),
    readsHeaders: () => false,
    authorize: (request, onRevoked) => {
      asked.push(request)
      const told: typeof onRevoked = why => onRevoked(why)
      live.add(told)
      return {
        decision: allow(request)
          ? { allow: true }
          : { allow: false, code: 'PSTN_POLICY_DENIED', reason: 'as the test wants it' },
        [Symbol.dispose]: () => void live.delete(told),
      }
    },
    ...options,
  })
  const revoke: GateInMemory['revoke'] = why => {
    for (const told of live) told(why)
  }
  return { caller, application, asked, outcomes, traffic, revoke, live: () => live.size, result }
}

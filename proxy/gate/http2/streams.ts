// The requests that were forwarded and are not over. A stream that is not here any more may still have frames on their way
// from either side: they end at the gate.
import { ChurnMap, ChurnSet } from '../../../shared/churn.ts'
import type { HttpRequest } from '../../../shared/policy/model.ts'
import type { GateOptions, RequestRefusal } from '../interface.ts'
import { LIMITS } from './limits.ts'

export type GatedStream = {
  readonly id: number
  readonly request: HttpRequest
  /** Its caller reads answers as gRPC does. Nothing else is kept of its head: 2,000 of them would be 64 MiB. */
  readonly grpc: boolean
  readonly grant: Disposable
  readonly startedAt: number
  /** Bytes of content that must still come; undefined where no length was told. */
  contentLeft: number | undefined
  callerEnded: boolean
  applicationEnded: boolean
  /** The final one; 0 until it has come. */
  status: number
}

export class Streams {
  readonly #live = new ChurnMap<number, GatedStream>()
  readonly #options: Pick<GateOptions, 'onRequest' | 'now'>
  #highest = 0
  /** Over, but not by the caller's end: what it had sent by then is still on its way. Oldest first. */
  readonly #left = new ChurnSet<number>()
  /** Of streams up to here nobody knows any more. */
  #forgotten = 0

  constructor(options: Pick<GateOptions, 'onRequest' | 'now'>) {
    this.#options = options
  }

  get size(): number {
    return this.#live.size
  }

  /** The last that the caller has opened. */
  get highest(): number {
    return this.#highest
  }

  get(id: number): GatedStream | undefined {
    return this.#live.get(id)
  }

  /** The caller has never opened it. */
  isIdle(id: number): boolean {
    return id > this.#highest
  }

  /** The caller has opened it, whatever becomes of it. */
  seen(id: number): void {
    this.#highest = id
  }

  /** The caller may not know yet that it is over: more of it is no error (RFC 9113, section 5.1). */
  isLeft(id: number): boolean {
    return id <= this.#forgotten || this.#left.has(id)
  }

  /** It is over, or never began; the caller goes on until it has heard. */
  leave(id: number): void {
    this.#left.add(id)
    if (this.#left.size <= LIMITS.leftStreams) return
    const oldest = this.#left.first() ?? id
    this.#left.delete(oldest)
    this.#forgotten = Math.max(this.#forgotten, oldest)
  }

  /** The caller has ended what was left. */
  settle(id: number): void {
    this.#left.delete(id)
  }

  add(stream: Pick<GatedStream, 'id' | 'request' | 'grpc' | 'grant' | 'contentLeft'>): GatedStream {
    const startedAt = this.#options.now()
    const live = { ...stream, startedAt, callerEnded: false, applicationEnded: false, status: 0 }
    this.#live.set(stream.id, live)
    return live
  }

  callerEnded(stream: GatedStream): void {
    stream.callerEnded = true
    if (stream.applicationEnded) this.close(stream)
  }

  applicationEnded(stream: GatedStream): void {
    stream.applicationEnded = true
    if (stream.callerEnded) this.close(stream)
  }

  close(stream: GatedStream, refusal?: RequestRefusal): void {
    if (!this.#live.delete(stream.id)) return
    stream.grant[Symbol.dispose]()
    if (!stream.callerEnded) this.leave(stream.id)
    const { request, status, startedAt } = stream
    this.#options.onRequest({ request, status, refusal, durationMs: this.#options.now() - startedAt })
  }

  /** None above `lastId` gets further: the application has said so, or the connection is over. */
  abandon(lastId: number, refusal?: RequestRefusal): void {
    for (const [id, stream] of this.#live) if (id > lastId) this.close(stream, refusal)
  }

  /** A request that was never forwarded. */
  refused(request: HttpRequest | undefined, status: number, refusal: RequestRefusal): void {
    this.#options.onRequest({ request, status, refusal, durationMs: 0 })
  }
}

// The requests that were forwarded and the order in which their answers come: the application answers them one by one.
import type { HttpRequest } from '../../../shared/policy/model.ts'
import type { GateOptions, RequestRefusal } from '../interface.ts'

export type Exchange = {
  readonly request: HttpRequest
  readonly grant: Disposable
  readonly startedAt: number
  /** It asked for WebSocket: what the caller sends behind it waits for the answer. */
  readonly webSocket: boolean
  /** All of it is with the application. */
  sent: boolean
  /** The final one; 0 until it has come. */
  status: number
  answered: boolean
}

export class Exchanges {
  readonly #queue: Exchange[] = []
  readonly #options: Pick<GateOptions, 'onRequest' | 'now'>

  constructor(options: Pick<GateOptions, 'onRequest' | 'now'>) {
    this.#options = options
  }

  get length(): number {
    return this.#queue.length
  }

  /** Whose answer comes next. */
  get front(): Exchange | undefined {
    const front = this.#queue[0]
    return front?.answered ? undefined : front
  }

  get last(): Exchange | undefined {
    return this.#queue.at(-1)
  }

  begin(request: HttpRequest, grant: Disposable, webSocket: boolean): void {
    const startedAt = this.#options.now()
    this.#queue.push({ request, grant, startedAt, webSocket, sent: false, status: 0, answered: false })
  }

  /** The latest request has been forwarded whole. */
  sent(): void {
    const { last } = this
    if (last) last.sent = true
    if (last?.answered) this.#remove()
  }

  /** The front one’s answer has come whole. An application may answer before it has read everything. */
  answered(): void {
    const front = this.#queue[0]
    if (front) front.answered = true
    if (front?.sent) this.#remove()
  }

  /** None of them gets further. */
  abandon(refusal?: RequestRefusal): void {
    while (this.#queue.length > 0) this.#remove(refusal)
  }

  /** A request that was never forwarded. */
  refused(request: HttpRequest | undefined, status: number, refusal: RequestRefusal): void {
    this.#options.onRequest({ request, status, refusal, durationMs: 0 })
  }

  #remove(refusal?: RequestRefusal): void {
    const exchange = this.#queue.shift()
    if (exchange === undefined) return
    exchange.grant[Symbol.dispose]()
    const { request, status, startedAt } = exchange
    this.#options.onRequest({ request, status, refusal, durationMs: this.#options.now() - startedAt })
  }
}

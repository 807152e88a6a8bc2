// What the application sends: passed on as it came, and followed closely enough to know which request is answered, where
// each answer ends, and when the connection has become a WebSocket.
import { badAnswer, HttpRefusal } from '../refusal.ts'
import { AnswerHead } from './answer-head.ts'
import { BodyReader, type Framing } from './body.ts'
import type { Exchange, Exchanges } from './exchanges.ts'
import type { Link } from './link.ts'
import { INCOMPLETE } from './request-head.ts'
import type { RequestSide } from './request-side.ts'

const NOTHING: Buffer = Buffer.alloc(0)
const CLOSE = Buffer.from('connection: close\r\n')

export class AnswerSide {
  readonly #link: Link
  readonly #exchanges: Exchanges
  readonly #requests: RequestSide
  readonly #head = new AnswerHead()
  readonly #body = new BodyReader()
  #mode: 'head' | 'body' | 'opaque' | 'over' = 'head'
  /** A head whose end has not come. */
  #held = NOTHING
  /** The head that was read last is to say that nothing comes behind its answer. */
  #saysClose = false

  constructor(link: Link, exchanges: Exchanges, requests: RequestSide) {
    this.#link = link
    this.#exchanges = exchanges
    this.#requests = requests
  }

  /** Something that was asked for has not been answered whole. */
  get owes(): boolean {
    return this.#mode === 'body' || this.#mode === 'opaque' || this.#exchanges.front !== undefined
  }

  data(chunk: Buffer): void {
    if (this.#mode === 'opaque') this.#link.toCaller(chunk)
    else if (this.#mode !== 'over') this.#read(chunk)
  }

  end(): void {
    if (this.#mode === 'opaque') this.#link.endCaller()
    else if (this.#held.length > 0) this.#fail(badAnswer('the answer ended in the middle of a head'))
    else if (this.#mode === 'body' && !this.#body.endsWithConnection) this.#link.cutOff()
    else {
      if (this.#mode === 'body') this.#complete()
      this.#link.finish()
    }
  }

  dispose(): void {
    this.#mode = 'over'
    this.#held = NOTHING
  }

  #read(chunk: Buffer): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    const inFlight = this.#exchanges.length
    let at = 0
    let failure: unknown
    try {
      for (let next = -1; at < bytes.length && next !== at; ) {
        next = at
        at = this.#step(bytes, at)
      }
    } catch (thrown) {
      failure = thrown
    }
    this.#held = at === bytes.length ? NOTHING : bytes.subarray(at)
    if (at > 0) this.#pass(at === bytes.length ? bytes : bytes.subarray(0, at))
    if (failure !== undefined) this.#fail(failure)
    else if (this.#exchanges.length < inFlight || this.#isOpaque()) this.#requests.advance()
  }

  #pass(bytes: Buffer): void {
    if (!this.#saysClose) {
      this.#link.toCaller(bytes)
      return
    }
    this.#saysClose = false
    const { closeStart, closeEnd } = this.#head
    this.#link.toCaller(Buffer.concat([bytes.subarray(0, closeStart), CLOSE, bytes.subarray(closeEnd)]))
  }

  #isOpaque(): boolean {
    return this.#mode === 'opaque'
  }

  /** The index behind what was read; `at` itself where more must come. */
  #step(bytes: Buffer, at: number): number {
    if (this.#mode === 'opaque') return bytes.length
    if (this.#mode === 'body') {
      const end = this.#body.consume(bytes, at)
      if (this.#body.done) this.#complete()
      return end
    }
    const { front } = this.#exchanges
    if (front === undefined) throw badAnswer('an answer that nobody asked for')
    const end = this.#head.read(bytes, at)
    if (end === INCOMPLETE) return at
    if (this.#head.status === 101) this.#switch(front)
    else if (this.#head.status >= 200) this.#begin(front)
    return end
  }

  #begin(front: Exchange): void {
    front.status = this.#head.status
    this.#saysClose = this.#requests.endBehind(front)
    const framing = framingOf(front.request.method, this.#head)
    if (framing === undefined) this.#complete()
    else {
      this.#body.begin(framing)
      this.#mode = 'body'
    }
  }

  #switch(front: Exchange): void {
    if (!front.webSocket || !this.#head.toWebSocket)
      throw badAnswer('a switch of protocols that nobody asked for')
    front.status = 101
    this.#mode = 'opaque'
    this.#requests.switched(true)
  }

  #complete(): void {
    const { front } = this.#exchanges
    this.#mode = 'head'
    this.#exchanges.answered()
    if (front?.webSocket) this.#requests.switched(false)
  }

  #fail(thrown: unknown): void {
    this.#mode = 'over'
    this.#held = NOTHING
    this.#link.answerAndFinish(thrown instanceof HttpRefusal ? thrown : badAnswer(String(thrown)))
  }
}

/** RFC 9112, section 6.3. Undefined: there is no body. */
function framingOf(method: string, { status, chunked, length }: AnswerHead): Framing | undefined {
  if (method === 'HEAD' || status === 204 || status === 304) return undefined
  if (chunked) return { kind: 'chunked' }
  if (length === undefined) return { kind: 'until-close' }
  return length === 0 ? undefined : { kind: 'length', bytes: length }
}

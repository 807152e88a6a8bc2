// What the caller sends: request by request read, authorized and forwarded, or refused in its turn. Bytes that cannot be
// acted on yet (behind a refusal, an upgrade, or too many requests) are held, and the caller is paused meanwhile.
import { asPosternError } from '../../../shared/errors.ts'
import type { HttpRequest } from '../../../shared/policy/model.ts'
import { authorizeReadings } from '../authorize.ts'
import { type Authenticated, type GateOptions, HEAD_TIMEOUT_MS, type RequestRefusal } from '../interface.ts'
import { HttpRefusal, malformed, notAuthenticated, toldOf, tooSlow } from '../refusal.ts'
import { isForbiddenTrailer } from '../trailers.ts'
import { BodyReader } from './body.ts'
import type { Exchange, Exchanges } from './exchanges.ts'
import { claimLines, clientCertLine, forwardHead } from './forwarded-head.ts'
import { LIMITS } from './limits.ts'
import type { Link } from './link.ts'
import { LF } from './octets.ts'
import { ownAnswer } from './own-answer.ts'
import { INCOMPLETE, RequestHead } from './request-head.ts'

type Mode =
  | 'head'
  | 'body'
  /** A refused request waits until those before it are answered. */
  | 'refusing'
  /** The body of a refused request. */
  | 'discarding'
  /** Behind a request for WebSocket, until it is answered. */
  | 'switching'
  | 'opaque'
  /** No request comes any more: the last was told to be the last, or refused. */
  | 'over'

type Waiting = {
  readonly refusal: HttpRefusal
  readonly told: RequestRefusal
  readonly request: HttpRequest | undefined
  readonly close: boolean
  /** Its head was forwarded, and its body went wrong. */
  readonly broken?: boolean
}

const NOTHING: Buffer = Buffer.alloc(0)
/** Up to here several pieces become one write. */
const JOINED_BYTES = 64 * 1024

export class RequestSide {
  readonly #link: Link
  readonly #exchanges: Exchanges
  readonly #options: GateOptions
  readonly #clientCert: Buffer
  readonly #head = new RequestHead()
  readonly #body = new BodyReader()
  readonly #onRevoked: (why: unknown) => void
  readonly #isForbiddenTrailer: (name: string) => boolean
  #mode: Mode = 'head'
  #held = NOTHING
  /** `#held` begins a head whose end has not come. */
  #partial = false
  #ended = false
  /** The next answer that can say so is the last. */
  #draining = false
  /** No request has come. */
  #isNew = true
  /** The request that is being read is the last. */
  #last = false
  #waiting: Waiting | undefined
  #headTimer: NodeJS.Timeout | undefined
  #pieces: Buffer[] = []

  constructor(link: Link, exchanges: Exchanges, options: GateOptions) {
    this.#link = link
    this.#exchanges = exchanges
    this.#options = options
    this.#clientCert = clientCertLine(options.forwardedClientCert)
    this.#onRevoked = why => link.abort(why)
    const { authenticator } = options
    this.#isForbiddenTrailer = name => isForbiddenTrailer(name) || (authenticator?.owns(name) ?? false)
  }

  /** Nothing more can be acted on until an answer has come. */
  get blocked(): boolean {
    const mode = this.#mode
    if (mode === 'head') return this.#exchanges.length >= LIMITS.inFlight
    return mode === 'refusing' || mode === 'switching'
  }

  /** A kept connection on which nothing is under way. A new one is not idle: its first request is. */
  get isIdle(): boolean {
    if (this.#exchanges.length > 0) return false
    return this.#mode === 'over' || (this.#mode === 'head' && this.#held.length === 0 && !this.#isNew)
  }

  /** Nobody can be told the end before an answer: what comes until then is still served. */
  drain(): void {
    this.#draining = true
  }

  /** Whether the answer to `exchange`, which begins now, is the last. */
  endBehind(exchange: Exchange): boolean {
    if (!this.#draining || exchange !== this.#exchanges.last || this.#mode === 'refusing') return false
    this.#last = true
    if (this.#mode === 'head') this.dispose()
    return true
  }

  data(chunk: Buffer): void {
    if (this.#mode === 'opaque') {
      this.#link.toApplication(chunk)
      return
    }
    const wasPartial = this.#partial
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    // Read again only when a line has come whole: a head that comes byte by byte costs no more than it must.
    if (wasPartial && !chunk.includes(LF) && this.#held.length <= LIMITS.headBytes) return
    this.advance()
  }

  end(): void {
    this.#ended = true
    this.advance()
  }

  /** Acts on what is held, as far as it can be. */
  advance(): void {
    if (this.#mode === 'refusing') this.#answerWaiting()
    const bytes = this.#held
    let at = 0
    this.#partial = false
    try {
      while (at < bytes.length && !this.blocked && !this.#partial) at = this.#step(bytes, at)
    } catch (thrown) {
      at = bytes.length
      this.#fail(asHttpRefusal(thrown))
    }
    this.#held = at === bytes.length ? NOTHING : bytes.subarray(at)
    this.#flush()
    if (this.#ended && !this.blocked) this.#finish()
  }

  /** Whether the application has agreed to WebSocket. The caller of this advances. */
  switched(agreed: boolean): void {
    this.#mode = agreed ? 'opaque' : this.#next()
  }

  dispose(): void {
    this.#mode = 'over'
    this.#held = NOTHING
    this.#pieces = []
    clearTimeout(this.#headTimer)
  }

  #step(bytes: Buffer, at: number): number {
    switch (this.#mode) {
      case 'head':
        return this.#readHead(bytes, at)
      case 'body':
      case 'discarding':
        return this.#readBody(bytes, at)
      case 'opaque':
        this.#pieces.push(bytes.subarray(at))
        return bytes.length
      default:
        return bytes.length
    }
  }

  #readHead(bytes: Buffer, at: number): number {
    const head = this.#head
    const end = head.read(bytes, at)
    if (end === INCOMPLETE) {
      this.#partial = true
      this.#startTimer()
      return at
    }
    this.#stopTimer()
    this.#isNew = false
    const found = this.#authenticate(bytes)
    if (found instanceof HttpRefusal) {
      this.#deny(head.request, found)
      return end
    }
    if (found)
      head.remove(
        bytes,
        found.removes,
        found.adds.map(([name]) => name),
      )
    const request = this.#requestOf(bytes, found)
    const grant = authorizeReadings(this.#options.authorize, request, this.#onRevoked)
    const { decision } = grant
    if (!decision.allow) {
      grant[Symbol.dispose]()
      this.#deny(request, new HttpRefusal(403, decision.code, decision.reason), decision)
      return end
    }
    this.#exchanges.begin(request, grant, head.webSocket)
    forwardHead(this.#pieces, bytes, at, head, claimLines(this.#clientCert, found?.adds ?? []))
    if (head.webSocket) {
      this.#exchanges.sent()
      this.#mode = 'switching'
    } else if (head.hasBody) this.#beginBody('body')
    else this.#sent()
    return end
  }

  #authenticate(bytes: Buffer): Authenticated | HttpRefusal | undefined {
    try {
      return this.#options.authenticator?.authenticate(() => this.#head.headers(bytes))
    } catch (thrown) {
      return notAuthenticated(thrown)
    }
  }

  #requestOf(bytes: Buffer, found: Authenticated | undefined): HttpRequest {
    const { request } = this.#head
    const reads = this.#options.readsHeaders()
    if (!reads && !found?.user) return request
    return {
      ...request,
      ...(reads && { headers: this.#head.headers(bytes, found) }),
      ...(found?.user && { user: found.user }),
    }
  }

  #beginBody(mode: 'body' | 'discarding'): void {
    const { chunked, length = 0 } = this.#head
    this.#body.begin(
      chunked ? { kind: 'chunked' } : { kind: 'length', bytes: length },
      this.#isForbiddenTrailer,
    )
    this.#mode = mode
  }

  #readBody(bytes: Buffer, at: number): number {
    const end = this.#body.consume(bytes, at)
    if (this.#mode === 'body') this.#pieces.push(bytes.subarray(at, end))
    if (this.#body.done) {
      if (this.#mode === 'body') this.#sent()
      else this.#mode = this.#next()
    }
    return end
  }

  #sent(): void {
    this.#exchanges.sent()
    this.#mode = this.#next()
  }

  #next(): Mode {
    return this.#last || this.#head.last ? 'over' : 'head'
  }

  /** Only a small body of known length is worth reading for the connection’s sake. */
  #deny(request: HttpRequest, refusal: HttpRefusal, told: RequestRefusal = toldOf(refusal)): void {
    const { last, hasBody, chunked, length = 0, expectsContinue } = this.#head
    const drainable = !hasBody || (!chunked && !expectsContinue && length <= LIMITS.discardedBytes)
    this.#refuse({ refusal, told, request, close: last || !drainable })
  }

  #giveUp(): void {
    this.#fail(tooSlow('the head did not come in time'))
    this.#flush()
  }

  /** What cannot be read ends the connection: nobody knows where the next request would begin. */
  #fail(refusal: HttpRefusal): void {
    this.#stopTimer()
    this.#held = NOTHING
    const broken = this.#mode === 'body'
    this.#refuse({ refusal, told: toldOf(refusal), request: undefined, close: true, broken })
  }

  #refuse(waiting: Waiting): void {
    this.#flush()
    this.#mode = 'refusing'
    this.#waiting = waiting
    this.#answerWaiting()
  }

  #answerWaiting(): void {
    const waiting = this.#waiting
    const { broken = false } = waiting ?? {}
    if (waiting === undefined || this.#exchanges.length > (broken ? 1 : 0)) return
    const { refusal, told, request } = waiting
    const close = waiting.close || this.#draining
    this.#waiting = undefined
    if (broken) {
      this.#mode = 'over'
      this.#link.answerAndFinish(refusal)
      return
    }
    const { method } = request ?? {}
    this.#link.answer(ownAnswer(refusal, { withoutBody: method === 'HEAD', close }))
    this.#exchanges.refused(request, refusal.status, told)
    if (close) {
      this.#mode = 'over'
      this.#link.finish()
    } else if (this.#head.hasBody) this.#beginBody('discarding')
    else this.#mode = 'head'
  }

  #finish(): void {
    if (this.#partial) this.#fail(malformed('the caller ended in the middle of a head'))
    else if (this.#mode === 'body') this.#link.cutOff()
    else this.#link.endApplication()
  }

  #startTimer(): void {
    this.#headTimer ??= setTimeout(() => {
      this.#headTimer = undefined
      if (this.#link.isCallerPaused) this.#startTimer()
      else this.#giveUp()
    }, this.#options.headTimeoutMs ?? HEAD_TIMEOUT_MS)
  }

  #stopTimer(): void {
    if (this.#headTimer === undefined) return
    clearTimeout(this.#headTimer)
    this.#headTimer = undefined
  }

  #flush(): void {
    const pieces = this.#pieces
    if (pieces.length === 0) return
    this.#pieces = []
    let bytes = 0
    for (const { length } of pieces) bytes += length
    const writes = pieces.length > 1 && bytes <= JOINED_BYTES ? [Buffer.concat(pieces, bytes)] : pieces
    for (const piece of writes) this.#link.toApplication(piece)
  }
}

function asHttpRefusal(thrown: unknown): HttpRefusal {
  if (thrown instanceof HttpRefusal) return thrown
  const { code, message } = asPosternError(thrown, 'PSTN_HTTP_MALFORMED')
  return new HttpRefusal(code === 'PSTN_NOT_READY' ? 503 : 400, code, message, { cause: thrown })
}

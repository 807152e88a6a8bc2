// The request gate of HTTP/1.1: one application connection for each caller's, what was authorized forwarded as it was read,
// bodies and answers untouched. The two sides decide; this file owns the two streams: pauses, ends, and the result.
import type { ByteStream } from '../../tunnel/byte-stream.ts'
import { type Gate, type Gated, type GateOptions, LINGER_MS } from '../interface.ts'
import { type HttpRefusal, toldOf, toldOfEnd } from '../refusal.ts'
import { AnswerSide } from './answer-side.ts'
import { Exchanges } from './exchanges.ts'
import type { Link } from './link.ts'
import { ownAnswer } from './own-answer.ts'
import { RequestSide } from './request-side.ts'

export const gateHttp1: Gate = (caller, application, options) =>
  new Http1Connection(caller, application, options).run()

class Http1Connection implements Link {
  readonly #caller: ByteStream
  readonly #application: ByteStream
  readonly #options: GateOptions
  readonly #exchanges: Exchanges
  readonly #requests: RequestSide
  readonly #answers: AnswerSide
  readonly #result = Promise.withResolvers<Gated>()
  readonly #onAbort: () => void
  readonly #onDrain: () => void
  #draining = false
  #open = 2
  #settled = false
  #callerPaused = false
  #applicationFull = false
  /** It must read what we have answered by ourselves before we read on. */
  #callerOwes = false
  /** We have ended our direction to it. */
  #applicationEnded = false
  /** It has ended its direction, or is gone. */
  #applicationOver = false
  #finishing = false
  /** What was wrong, where no request could be told of it. */
  #untold: HttpRefusal | undefined
  #linger: NodeJS.Timeout | undefined

  constructor(caller: ByteStream, application: ByteStream, options: GateOptions) {
    this.#caller = caller
    this.#application = application
    this.#options = options
    this.#exchanges = new Exchanges(options)
    this.#requests = new RequestSide(this, this.#exchanges, options)
    this.#answers = new AnswerSide(this, this.#exchanges, this.#requests)
    this.#onAbort = () => this.abort(options.signal.reason)
    this.#onDrain = () => {
      this.#draining = true
      this.#requests.drain()
      this.#regulate()
    }
  }

  run(): Promise<Gated> {
    const { signal, draining } = this.#options
    signal.addEventListener('abort', this.#onAbort, { once: true })
    draining?.addEventListener('abort', this.#onDrain, { once: true })
    if (signal.aborted) this.#onAbort()
    else this.#start()
    if (draining?.aborted) this.#onDrain()
    return this.#result.promise
  }

  toApplication(bytes: Buffer): void {
    this.#options.traffic.aToB += bytes.length
    if (!this.#application.write(bytes)) this.#applicationFull = true
  }

  toCaller(bytes: Buffer): void {
    if (!this.#writeToCaller(bytes)) this.#application.pause()
  }

  answer(bytes: Buffer): void {
    if (!this.#writeToCaller(bytes)) this.#callerOwes = true
  }

  #writeToCaller(bytes: Buffer): boolean {
    this.#options.traffic.bToA += bytes.length
    return this.#caller.write(bytes)
  }

  endApplication(): void {
    if (this.#applicationEnded) return
    this.#applicationEnded = true
    this.#application.end()
  }

  endCaller(): void {
    this.#caller.end()
  }

  finish(refusal?: HttpRefusal): void {
    if (this.#finishing || this.#settled) return
    this.#finishing = true
    this.#applicationFull = false
    this.#callerOwes = false
    this.#exchanges.abandon(refusal && toldOf(refusal))
    this.#requests.dispose()
    this.#answers.dispose()
    this.#caller.end()
    this.endApplication()
    this.#application.resume()
    this.#regulate()
    // What an application has sent whole may still be on its way to a slow reader.
    if (refusal || !(this.#applicationOver || this.#draining)) this.#startLinger()
  }

  answerAndFinish(refusal: HttpRefusal): void {
    const exchange = this.#exchanges.front
    if (!this.#isOurTurn()) {
      this.abort(refusal)
      return
    }
    if (exchange) {
      exchange.status = refusal.status
      const withoutBody = exchange.request.method === 'HEAD'
      this.answer(ownAnswer(refusal, { withoutBody, close: true }))
    } else this.#untold = refusal
    this.#applicationEnded = true
    this.#application.reset()
    this.finish(refusal)
  }

  /** Whether an answer of ours would stand where the caller expects it: nothing of the application’s came before. */
  #isOurTurn(): boolean {
    const { front, length } = this.#exchanges
    if (length === 0) return true
    return front?.status === 0
  }

  get isCallerPaused(): boolean {
    return this.#callerPaused
  }

  cutOff(): void {
    this.#end('reset')
  }

  abort(reason: unknown): void {
    this.#end('aborted', reason)
  }

  #start(): void {
    this.#caller.open({
      data: chunk => {
        this.#requests.data(chunk)
        if (this.#finishing) this.#startLinger()
        this.#regulate()
      },
      end: () => {
        this.#requests.end()
        this.#regulate()
      },
      drain: () => {
        this.#callerOwes = false
        this.#application.resume()
        this.#regulate()
      },
      closed: how => this.#closed(how),
    })
    this.#application.open({
      data: chunk => {
        this.#answers.data(chunk)
        this.#regulate()
      },
      end: () => {
        this.#applicationOver = true
        this.#answers.end()
      },
      drain: () => {
        this.#applicationFull = false
        this.#regulate()
      },
      closed: how => {
        this.#applicationOver = true
        // Cut off behind its last answer, as servers do that did not read all: the answer must still arrive.
        if (how === 'reset' && !this.#settled && !this.#answers.owes) this.finish()
        this.#closed(this.#finishing ? 'ended' : how)
      },
    })
  }

  #regulate(): void {
    if (this.#draining && this.#requests.isIdle) this.finish()
    const wait = this.#applicationFull || this.#callerOwes || this.#requests.blocked
    if (wait === this.#callerPaused || this.#settled) return
    this.#callerPaused = wait
    if (wait) this.#caller.pause()
    else this.#caller.resume()
  }

  /** What a caller sends behind the end is thrown away, but not for ever. */
  #startLinger(): void {
    if (this.#settled) return
    this.#linger ??= setTimeout(() => this.#end(this.#outcome()), this.#options.lingerMs ?? LINGER_MS)
  }

  #closed(how: 'ended' | 'reset'): void {
    this.#open -= 1
    if (how === 'reset') this.#end(this.#finishing ? this.#outcome() : 'reset')
    else if (this.#open === 0) this.#end(this.#outcome())
  }

  #outcome(): Gated['outcome'] {
    return this.#untold ? 'aborted' : 'ended'
  }

  #end(outcome: Gated['outcome'], reason: unknown = this.#untold): void {
    if (this.#settled) return
    this.#settled = true
    clearTimeout(this.#linger)
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#options.draining?.removeEventListener('abort', this.#onDrain)
    this.#exchanges.abandon(outcome === 'aborted' ? toldOfEnd(reason) : undefined)
    this.#requests.dispose()
    this.#answers.dispose()
    this.#caller.reset()
    this.#application.reset()
    this.#result.resolve(outcome === 'aborted' ? { outcome, reason } : { outcome })
  }
}

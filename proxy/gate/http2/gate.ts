// The request gate of HTTP/2 with prior knowledge (h2c, gRPC): one application connection for each caller's, streams with
// the same numbers on both, each request read, authorized and forwarded, content and windows passed from end to end. The
// two sides decide; this file owns the two streams: pauses, ends, and the result.
import { ErrorCode, Http2Error } from '../../http2/errors.ts'
import { goawayFrame, settingsFrame } from '../../http2/frames.ts'
import type { ByteStream } from '../../tunnel/byte-stream.ts'
import { type Gate, type Gated, type GateOptions, HEAD_TIMEOUT_MS, LINGER_MS } from '../interface.ts'
import { badAnswer, type HttpRefusal, toldOf, toldOfEnd, tooSlow } from '../refusal.ts'
import { ApplicationSide } from './application-side.ts'
import { CallerSide } from './caller-side.ts'
import { Link } from './link.ts'
import { badAnswerOf, refusalOf } from './refusals.ts'

/** A caller that was told of the end and has sent requests before it knew: they are served. */
const NOTICE_MS = 1_000
const ANY_STREAM = 2 ** 31 - 1

export const gateHttp2: Gate = (caller, application, options) =>
  new Http2Connection(caller, application, options).run()

class Http2Connection {
  readonly #caller: ByteStream
  readonly #application: ByteStream
  readonly #options: GateOptions
  readonly #link: Link
  readonly #requests: CallerSide
  readonly #answers: ApplicationSide
  readonly #result = Promise.withResolvers<Gated>()
  readonly #onAbort: () => void
  readonly #onDrain: () => void
  #open = 2
  #settled = false
  #finishing = false
  #callerPaused = false
  /** It must read what we have written to it before we read on. */
  #callerOwes = false
  #applicationPaused = false
  /** What the gate itself found wrong, while the caller is still told so. */
  #reason: HttpRefusal | undefined
  #headTimer: NodeJS.Timeout | undefined
  #notice: NodeJS.Timeout | undefined
  /** The caller knows which stream is its last. */
  #saidLast = false
  #linger: NodeJS.Timeout | undefined

  constructor(caller: ByteStream, application: ByteStream, options: GateOptions) {
    this.#caller = caller
    this.#application = application
    this.#options = options
    this.#link = new Link(caller, application, options)
    this.#requests = new CallerSide(this.#link)
    this.#answers = new ApplicationSide(this.#link)
    this.#onAbort = () => this.#end('aborted', options.signal.reason)
    this.#onDrain = () => this.#drain()
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

  #start(): void {
    const { toCaller, toApplication } = this.#link
    this.#watchHead()
    this.#caller.open({
      data: chunk => this.#fromCaller(chunk),
      end: () => {
        if (!this.#finishing) toApplication.end()
      },
      drain: () => {
        toCaller.drained()
        this.#regulate()
      },
      closed: how => this.#closed(how),
    })
    this.#application.open({
      data: chunk => this.#fromApplication(chunk),
      end: () => this.#applicationEnded(),
      drain: () => {
        toApplication.drained()
        this.#regulate()
      },
      closed: how => {
        // Nothing was cut off if nothing was under way: servers end idle connections like this.
        if (how === 'reset' && this.#link.streams.size === 0 && !toCaller.isHeld) this.#finish()
        this.#closed(how)
      },
    })
  }

  #fromCaller(chunk: Buffer): void {
    if (this.#finishing || this.#settled) return
    try {
      this.#requests.read(chunk)
    } catch (thrown) {
      const code = thrown instanceof Http2Error ? thrown.code : ErrorCode.PROTOCOL_ERROR
      this.#giveUp(refusalOf(thrown), code)
    }
    this.#link.flush()
    if (this.#requests.wroteBack) this.#callerOwes = true
    this.#watchHead()
    this.#regulate()
    this.#finishIfDrained()
  }

  #fromApplication(chunk: Buffer): void {
    if (this.#finishing || this.#settled) return
    try {
      this.#answers.read(chunk)
    } catch (thrown) {
      this.#giveUp(badAnswerOf(thrown), ErrorCode.INTERNAL_ERROR)
    }
    this.#link.flush()
    this.#regulate()
    this.#finishIfDrained()
  }

  #applicationEnded(): void {
    if (this.#finishing) return
    if (this.#link.toCaller.isHeld)
      this.#giveUp(badAnswer('the end before SETTINGS'), ErrorCode.INTERNAL_ERROR)
    else this.#link.toCaller.end()
  }

  /** Bytes wait in the streams, and their senders with them, instead of here. */
  #regulate(): void {
    if (this.#settled || this.#finishing) return
    const { toCaller, toApplication } = this.#link
    this.#callerOwes &&= toCaller.isFull
    const pauseCaller = toApplication.isFull || this.#callerOwes
    if (pauseCaller !== this.#callerPaused) {
      this.#callerPaused = pauseCaller
      if (pauseCaller) this.#caller.pause()
      else this.#caller.resume()
    }
    // What is held goes when the application has spoken.
    const pauseApplication = toCaller.isFull && !toCaller.isHeld
    if (pauseApplication === this.#applicationPaused) return
    this.#applicationPaused = pauseApplication
    if (pauseApplication) this.#application.pause()
    else this.#application.resume()
  }

  /** The preface, a header block, any frame but DATA: what has begun must become whole in time. */
  #watchHead(): void {
    if (!this.#requests.isWaiting || this.#finishing || this.#settled) {
      clearTimeout(this.#headTimer)
      this.#headTimer = undefined
      return
    }
    if (this.#headTimer !== undefined) return
    const { frames } = this.#requests
    this.#headTimer = setTimeout(() => {
      this.#headTimer = undefined
      if (this.#requests.frames !== frames || this.#callerPaused) this.#watchHead()
      else this.#giveUp(tooSlow('the head did not come in time'), ErrorCode.ENHANCE_YOUR_CALM)
    }, this.#options.headTimeoutMs ?? HEAD_TIMEOUT_MS).unref()
  }

  /** As RFC 9113, section 6.8, advises: a notice first, so that no request that is on its way is lost. */
  #drain(): void {
    if (this.#finishing || this.#settled) return
    this.#sayGoaway(ANY_STREAM)
    this.#notice = setTimeout(() => {
      if (this.#finishing) return
      this.#saidLast = true
      this.#sayGoaway(this.#link.streams.highest)
      this.#finishIfDrained()
    }, NOTICE_MS).unref()
  }

  #sayGoaway(lastStreamId: number): void {
    const link = this.#link
    link.lastServed = Math.min(link.lastServed, lastStreamId)
    link.toCaller.add(goawayFrame(link.lastServed, ErrorCode.NO_ERROR))
    link.flush()
  }

  #finishIfDrained(): void {
    if (!this.#saidLast || this.#link.streams.size > 0) return
    this.#link.toCaller.release(settingsFrame([]))
    this.#finish('end')
  }

  /** The connection cannot go on, and the caller is told why. */
  #giveUp(refusal: HttpRefusal, code: ErrorCode): void {
    if (this.#finishing || this.#settled) return
    this.#reason = refusal
    const { toCaller, streams } = this.#link
    const told = toldOf(refusal)
    if (streams.size === 0) streams.refused(undefined, 0, told)
    streams.abandon(0, told)
    toCaller.release(settingsFrame([]))
    toCaller.add(goawayFrame(streams.highest, code, Buffer.from(refusal.code)))
    this.#finish()
  }

  /** The caller gets an orderly end behind what was written; whatever it still sends is thrown away. */
  #finish(application: 'end' | 'reset' = 'reset'): void {
    if (this.#finishing || this.#settled) return
    this.#finishing = true
    this.#requests.stop()
    this.#answers.stop()
    clearTimeout(this.#headTimer)
    this.#link.toApplication[application]()
    this.#link.toCaller.end()
    this.#caller.resume()
    this.#application.resume()
    // In peace a slow reader has all the time that the drain has.
    if (application === 'end') return
    this.#linger = setTimeout(() => this.#end(this.#outcome()), LINGER_MS).unref()
  }

  #closed(how: 'ended' | 'reset'): void {
    this.#open -= 1
    if (how === 'reset' && !this.#finishing) this.#end('reset')
    else if (this.#open === 0) this.#end(this.#outcome())
  }

  #outcome(): Gated['outcome'] {
    return this.#reason ? 'aborted' : 'ended'
  }

  #end(outcome: Gated['outcome'], reason: unknown = this.#reason): void {
    if (this.#settled) return
    this.#settled = true
    clearTimeout(this.#linger)
    clearTimeout(this.#headTimer)
    clearTimeout(this.#notice)
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#options.draining?.removeEventListener('abort', this.#onDrain)
    this.#requests.stop()
    this.#answers.stop()
    this.#link.streams.abandon(0, outcome === 'aborted' ? toldOfEnd(reason) : undefined)
    this.#link.toCaller.reset()
    this.#link.toApplication.reset()
    this.#result.resolve(outcome === 'aborted' ? { outcome, reason } : { outcome })
  }
}

// What the two sides of the HTTP/2 gate share: the way to each peer with its header table, the streams, and the ways in
// which a stream ends by the gate's own decision.
import { ErrorCode, Http2Error } from '../../http2/errors.ts'
import { headersFrames, INITIAL, rstStreamFrame } from '../../http2/frames.ts'
import type { Header } from '../../http2/header.ts'
import { HpackEncoder } from '../../http2/hpack-encoder.ts'
import type { ByteStream } from '../../tunnel/byte-stream.ts'
import type { GateOptions, RequestRefusal } from '../interface.ts'
import { type HttpRefusal, toldOf } from '../refusal.ts'
import { LIMITS } from './limits.ts'
import { Outbox } from './outbox.ts'
import { ownAnswer } from './own-answer.ts'
import { Quota } from './quota.ts'
import { Unacknowledged } from './settings.ts'
import { type GatedStream, Streams } from './streams.ts'

export class Link {
  readonly options: GateOptions
  readonly streams: Streams
  /** Held until the application has sent its SETTINGS, which must be the first that a caller gets. */
  readonly toCaller: Outbox
  readonly toApplication: Outbox
  readonly callerSettings: Unacknowledged
  readonly applicationSettings: Unacknowledged
  /** Frames of the caller that carry nothing; what the application sends entitles to more of them. */
  readonly control: Quota
  /** The application has said that it takes extended CONNECT. */
  connectProtocol = false
  /** What each side has allowed the other; the greatest yet, since nobody knows when a smaller one arrives. */
  readonly maxFrameSize: { fromCaller: number; fromApplication: number } = {
    fromCaller: INITIAL.maxFrameSize,
    fromApplication: INITIAL.maxFrameSize,
  }
  /** Streams above it will not be served: the application's GOAWAY. */
  lastServed = Number.POSITIVE_INFINITY
  readonly #callerBlocks = new HpackEncoder()
  readonly #applicationBlocks = new HpackEncoder()
  readonly #resets: Quota

  constructor(caller: ByteStream, application: ByteStream, options: GateOptions) {
    const { traffic } = options
    const toCaller = (bytes: number) => {
      traffic.bToA += bytes
    }
    const toApplication = (bytes: number) => {
      traffic.aToB += bytes
    }
    this.options = options
    this.streams = new Streams(options)
    this.toCaller = new Outbox(caller, toCaller, true)
    this.toApplication = new Outbox(application, toApplication, false)
    this.callerSettings = new Unacknowledged(this.#callerBlocks)
    this.applicationSettings = new Unacknowledged(this.#applicationBlocks)
    this.control = new Quota(LIMITS.controlFrames, options.now)
    this.#resets = new Quota(LIMITS.resets, options.now)
  }

  headersToCaller(streamId: number, headers: readonly Header[], endStream: boolean): void {
    this.toCaller.add(headersFrames(streamId, this.#callerBlocks.encode(headers), endStream))
  }

  headersToApplication(streamId: number, headers: readonly Header[], endStream: boolean): void {
    this.toApplication.add(headersFrames(streamId, this.#applicationBlocks.encode(headers), endStream))
  }

  /** @throws Http2Error when the caller has caused more than it may. */
  countReset(): void {
    if (!this.#resets.take()) throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, 'too many streams cut off')
  }

  /** Answers in the application's place. What the caller has not sent of the request it need not send any more. */
  answer(streamId: number, refusal: HttpRefusal, toGrpc: boolean, callerEnded: boolean): void {
    this.headersToCaller(streamId, ownAnswer(refusal, toGrpc), true)
    if (!callerEnded) this.toCaller.add(rstStreamFrame(streamId, ErrorCode.NO_ERROR))
  }

  /** Both sides are told that the stream is over. */
  cut(stream: GatedStream, code: ErrorCode, told: RequestRefusal): void {
    this.toCaller.add(rstStreamFrame(stream.id, code))
    this.toApplication.add(rstStreamFrame(stream.id, code))
    this.streams.close(stream, told)
  }

  /** The application's answer is none: ours stands in for it if none of it has left. */
  cutAnswer(stream: GatedStream, refusal: HttpRefusal): void {
    if (stream.status === 0) {
      this.answer(stream.id, refusal, stream.grpc, stream.callerEnded)
      stream.status = refusal.status
    } else this.toCaller.add(rstStreamFrame(stream.id, ErrorCode.INTERNAL_ERROR))
    this.toApplication.add(rstStreamFrame(stream.id, ErrorCode.CANCEL))
    this.streams.close(stream, toldOf(refusal))
  }

  flush(): void {
    this.toApplication.flush()
    this.toCaller.flush()
  }
}

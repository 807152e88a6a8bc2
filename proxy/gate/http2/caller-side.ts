// What the caller sends: requests are read, authorized and forwarded in our own words; DATA and windows pass. What the
// application never gets of a stream is paid back to the caller's window here, since nobody else will.
import type { PosternError } from '../../../shared/errors.ts'
import { ErrorCode, Http2Error } from '../../http2/errors.ts'
import { type FrameHandler, FrameReader } from '../../http2/frame-reader.ts'
import {
  CONNECTION_PREFACE,
  goawayFrame,
  INITIAL,
  pingFrame,
  rstStreamFrame,
  type SettingEntry,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../../http2/frames.ts'
import type { Header } from '../../http2/header.ts'
import { HpackDecoder } from '../../http2/hpack-decoder.ts'
import { authorizeReadings } from '../authorize.ts'
import type { Authenticated, RequestRefusal } from '../interface.ts'
import { HttpRefusal, malformed, notAuthenticated, overLimit, toldOf } from '../refusal.ts'
import { LIMITS } from './limits.ts'
import type { Link } from './link.ts'
import { isGrpc } from './own-answer.ts'
import { refusalOf, streamErrorOf } from './refusals.ts'
import { readGatedRequest, readGatedTrailers, readHeaders, withClaims } from './request-head.ts'
import { longestFrame, settingsForApplication } from './settings.ts'
import type { GatedStream } from './streams.ts'

export class CallerSide implements FrameHandler {
  readonly #link: Link
  readonly #reader = new FrameReader(this, { from: 'client', maxFrameSize: INITIAL.maxFrameSize })
  readonly #hpack = new HpackDecoder({
    maxTableSize: INITIAL.headerTableSize,
    maxListSize: LIMITS.requestListBytes,
  })
  #first = true
  /** Flow-controlled bytes that went nowhere. */
  #swallowed = 0
  #wrote = false

  constructor(link: Link) {
    this.#link = link
  }

  /** @throws Http2Error of the connection. */
  read(chunk: Buffer): void {
    this.#wrote = false
    this.#reader.setMaxFrameSize(this.#link.maxFrameSize.fromCaller)
    this.#reader.push(chunk)
    if (this.#swallowed === 0) return
    this.#link.toCaller.add(windowUpdateFrame(0, this.#swallowed))
    this.#swallowed = 0
    this.#wrote = true
  }

  /** The last chunk made us write to the caller itself: if it does not read that, it should not be read from. */
  get wroteBack(): boolean {
    return this.#wrote
  }

  get isWaiting(): boolean {
    return this.#reader.isWaiting
  }

  get frames(): number {
    return this.#reader.frames
  }

  stop(): void {
    this.#reader.stop()
  }

  headers(streamId: number, block: Buffer, endStream: boolean): void {
    const list = this.#decode(block, streamId)
    const { streams } = this.#link
    if (streams.isIdle(streamId)) {
      streams.seen(streamId)
      this.#request(streamId, list, endStream)
      return
    }
    const stream = this.#forwarded(streamId, 'HEADERS')
    if (stream) this.#trailers(stream, list, endStream)
    else if (endStream) streams.settle(streamId)
  }

  data(streamId: number, piece: Buffer, flowControlled: number, endStream: boolean): void {
    if (flowControlled === 0 && !endStream) this.#countControl()
    const { streams, toApplication } = this.#link
    const stream = this.#forwarded(streamId, 'DATA')
    const wrong = stream && wrongContent(stream, piece.length, endStream)
    if (stream && wrong === undefined) {
      toApplication.data(streamId, piece, flowControlled, endStream)
      if (endStream) streams.callerEnded(stream)
      return
    }
    this.#swallowed += flowControlled
    if (wrong) this.#cut(stream, wrong)
    if (endStream) streams.settle(streamId)
  }

  rstStream(streamId: number, code: number): void {
    const { streams, toApplication } = this.#link
    const stream = this.#opened(streamId, 'RST_STREAM')
    if (stream) {
      this.#link.countReset()
      toApplication.add(rstStreamFrame(streamId, code))
      stream.callerEnded = true
      streams.close(stream)
    } else {
      this.#countControl()
      streams.settle(streamId)
    }
  }

  windowUpdate(streamId: number, increment: number): void {
    this.#countControl()
    if (streamId === 0 || this.#opened(streamId, 'WINDOW_UPDATE'))
      this.#link.toApplication.add(windowUpdateFrame(streamId, increment))
  }

  settings(entries: readonly SettingEntry[]): void {
    this.#countControl()
    const { callerSettings, maxFrameSize } = this.#link
    callerSettings.sent(entries)
    maxFrameSize.fromApplication = longestFrame(entries, maxFrameSize.fromApplication)
    if (this.#first) this.#link.toApplication.add(CONNECTION_PREFACE)
    this.#link.toApplication.add(settingsFrame(settingsForApplication(entries, this.#first)))
    this.#first = false
  }

  settingsAck(): void {
    this.#link.applicationSettings.acknowledged()
    this.#link.toApplication.add(settingsAckFrame())
  }

  ping(opaque: Buffer, ack: boolean): void {
    this.#countControl()
    this.#link.toApplication.add(pingFrame(opaque, ack))
  }

  goaway(lastStreamId: number, code: number, debug: Buffer): void {
    this.#countControl()
    this.#link.toApplication.add(goawayFrame(lastStreamId, code, debug))
  }

  /** Deprecated (RFC 9113, section 5.3.2), and a load for those that still heed it. */
  priority(): void {
    this.#countControl()
  }

  /** Extensions are of one connection (RFC 9113, section 5.5). */
  unknown(): void {
    this.#countControl()
  }

  streamError(error: Http2Error): void {
    const stream = this.#link.streams.get(error.streamId ?? 0)
    if (!stream) throw new Http2Error(error.code, error.message)
    this.#cut(stream, error)
  }

  #decode(block: Buffer, streamId: number): readonly Header[] | HttpRefusal {
    try {
      return this.#hpack.decode(block, streamId)
    } catch (thrown) {
      return refusalOf(streamErrorOf(thrown))
    }
  }

  #request(id: number, headers: readonly Header[] | HttpRefusal, ended: boolean): void {
    const { streams, lastServed } = this.#link
    if (id > lastServed) this.#turnAway(id, ended)
    else if (streams.size >= LIMITS.concurrentStreams) {
      this.#turnAway(id, ended)
      const why = overLimit(`more than ${LIMITS.concurrentStreams} requests at once`)
      streams.refused(undefined, 0, toldOf(why))
    } else if (headers instanceof HttpRefusal) this.#refuse(id, headers, [], ended)
    else
      try {
        this.#authorize(id, headers, ended)
      } catch (thrown) {
        this.#refuse(id, refusalOf(thrown), headers, ended)
      }
  }

  /** @throws Http2Error of the stream, PosternError */
  #authorize(id: number, headers: readonly Header[], ended: boolean): void {
    const { options, streams, connectProtocol } = this.#link
    const clientCert = options.forwardedClientCert
    const read = readGatedRequest(headers, id, { clientCert, connectProtocol })
    const { forwarded, contentLength } = read
    if (ended && contentLength) throw malformed('a content-length without content')
    const found = this.#authenticate(headers)
    if (found instanceof HttpRefusal) {
      this.#answer(id, found, headers, ended)
      streams.refused(read.request, found.status, toldOf(found))
      return
    }
    const user = found?.user
    const seen = options.readsHeaders()
      ? { ...read.request, headers: readHeaders(found ? withClaims(headers, found) : headers) }
      : read.request
    const request = user ? { ...seen, user } : seen
    // No closure here may hold the head, or it lives as long as the request.
    const grant = authorizeReadings(options.authorize, request, why => this.#revoke(id, why))
    const { decision } = grant
    if (!decision.allow) {
      grant[Symbol.dispose]()
      const refusal = new HttpRefusal(403, decision.code, decision.reason)
      this.#answer(id, refusal, headers, ended)
      streams.refused(request, refusal.status, decision)
      return
    }
    const stream = streams.add({
      id,
      request,
      grpc: isGrpc(headers),
      grant,
      contentLeft: contentLength,
    })
    this.#link.headersToApplication(id, found ? withClaims(forwarded, found) : forwarded, ended)
    if (ended) streams.callerEnded(stream)
  }

  #authenticate(headers: readonly Header[]): Authenticated | HttpRefusal | undefined {
    try {
      return this.#link.options.authenticator?.authenticate(() => readHeaders(headers))
    } catch (thrown) {
      return notAuthenticated(thrown)
    }
  }

  #trailers(stream: GatedStream, list: readonly Header[] | HttpRefusal, ended: boolean): void {
    try {
      if (list instanceof HttpRefusal) throw list
      const wrong = wrongContent(stream, 0, true)
      if (wrong) throw wrong
      if (!ended) throw malformed('trailers that do not end the stream')
      const trailers = readGatedTrailers(
        list,
        stream.id,
        name => this.#link.options.authenticator?.owns(name) ?? false,
      )
      this.#link.headersToApplication(stream.id, trailers, true)
      this.#link.streams.callerEnded(stream)
    } catch (thrown) {
      this.#cut(stream, thrown)
      if (ended) this.#link.streams.settle(stream.id)
    }
  }

  #refuse(id: number, refusal: HttpRefusal, headers: readonly Header[], ended: boolean): void {
    this.#answer(id, refusal, headers, ended)
    this.#link.streams.refused(undefined, refusal.status, toldOf(refusal))
  }

  #answer(id: number, refusal: HttpRefusal, headers: readonly Header[], ended: boolean): void {
    this.#wrote = true
    this.#link.answer(id, refusal, isGrpc(headers), ended)
    if (!ended) this.#link.streams.leave(id)
  }

  /** Not processed: it may be sent again (RFC 9113, section 8.7). */
  #turnAway(id: number, ended: boolean): void {
    this.#wrote = true
    if (!ended) this.#link.streams.leave(id)
    this.#link.toCaller.add(rstStreamFrame(id, ErrorCode.REFUSED_STREAM))
  }

  #cut(stream: GatedStream, why: unknown): void {
    this.#link.countReset()
    this.#wrote = true
    const code = why instanceof Http2Error ? why.code : ErrorCode.PROTOCOL_ERROR
    this.#link.cut(stream, code, toldOf(refusalOf(why)))
  }

  #revoke(id: number, why: PosternError & Pick<RequestRefusal, 'policy' | 'rule'>): void {
    const stream = this.#link.streams.get(id)
    if (!stream) return
    const { code, message, policy, rule } = why
    this.#link.cut(stream, ErrorCode.CANCEL, { code, reason: message, policy, rule })
    this.#link.flush()
  }

  /** Undefined: the stream is over or was never forwarded, and the caller may not know it. */
  #forwarded(streamId: number, what: string): GatedStream | undefined {
    const stream = this.#opened(streamId, what)
    if (stream || this.#link.streams.isLeft(streamId)) return stream
    throw new Http2Error(ErrorCode.STREAM_CLOSED, `${what} on a stream that the caller has ended`)
  }

  #opened(streamId: number, what: string): GatedStream | undefined {
    if (this.#link.streams.isIdle(streamId))
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, `${what} on a stream that was not opened`)
    return this.#link.streams.get(streamId)
  }

  #countControl(): void {
    if (!this.#link.control.take())
      throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, 'too many frames that carry nothing')
  }
}

/** RFC 9113, sections 5.1 and 8.1.1. Counts what came. */
function wrongContent(stream: GatedStream, bytes: number, ended: boolean): Error | undefined {
  if (stream.callerEnded)
    return new Http2Error(ErrorCode.STREAM_CLOSED, 'content behind the end of the stream', stream.id)
  if (stream.contentLeft === undefined) return undefined
  stream.contentLeft -= bytes
  if (stream.contentLeft < 0) return malformed('more content than content-length')
  return ended && stream.contentLeft > 0 ? malformed('less content than content-length') : undefined
}

// The streams of one session: which there are, and what frames of streams mean in each state (RFC 9113, section 5.1).
import { ChurnMap } from '../../shared/churn.ts'
import { ErrorCode, Http2Error } from '../http2/errors.ts'
import {
  headersFrames,
  INITIAL,
  MAX_STREAM_ID,
  rstStreamFrame,
  Setting,
  type SettingEntry,
} from '../http2/frames.ts'
import type { Header } from '../http2/header.ts'
import { HpackDecoder } from '../http2/hpack-decoder.ts'
import { HpackEncoder } from '../http2/hpack-encoder.ts'
import type { Limit } from './abuse.ts'
import { type Answer, readAnswer, readConnect, type TunnelHead } from './connect-headers.ts'
import type { Allowance } from './flow-control.ts'
import type { Held } from './held.ts'
import { Incoming } from './incoming.ts'
import { Outgoing } from './outgoing.ts'
import type { Output } from './output.ts'
import { RECEIVE } from './settings.ts'
import { type StreamOwner, TunnelStream } from './stream.ts'

export type StreamsOptions = {
  readonly role: 'client' | 'server'
  /** At a time. */
  readonly maxStreams: number
  /** What windows may grow by, shared with other sessions. */
  readonly growth: Allowance
  readonly held: Held
  /** Whether what is read is only lent. */
  readonly lends: boolean
  onRequest(stream: TunnelStream, request: TunnelHead): void
  onLimit(limit: Limit): void
  /** The last stream is gone. */
  onIdle(): void
  /** The peer broke a rule, which costs it its stream. @throws Http2Error if it does so too often */
  onFault(): void
}

/** What became of a request: an answer, or the code of the stream's end without one. */
export type OnAnswer = (answer: Answer | undefined, code: ErrorCode) => void

/** In order, by our reset, or by the peer's or with the connection. */
type Ending = 'ended' | 'reset' | 'cut'

/** Streams that have just ended, to tell a late frame from a wrong one. */
const REMEMBERED = 1024
export class Streams implements StreamOwner {
  readonly incoming: Incoming
  readonly outgoing: Outgoing
  readonly #options: StreamsOptions
  readonly #output: Output
  readonly #live = new ChurnMap<number, TunnelStream>()
  readonly #asked = new ChurnMap<number, OnAnswer>()
  readonly #ended = new ChurnMap<number, Ending>()
  readonly #encoder = new HpackEncoder()
  readonly #decoder = new HpackDecoder({
    maxTableSize: INITIAL.headerTableSize,
    maxListSize: RECEIVE.maxHeaderListSize,
  })
  #lastId: number
  #lastAccepted = MAX_STREAM_ID
  #peerWindow: number = INITIAL.window
  #peerMaxStreams = Number.POSITIVE_INFINITY

  constructor(options: StreamsOptions, output: Output) {
    this.#options = options
    this.#output = output
    this.incoming = new Incoming(output, options.maxStreams, options.growth, options.held)
    this.outgoing = new Outgoing(output, {
      held: options.held,
      onLimit: options.onLimit,
      onWritten: stream => {
        stream.onWritten()
        if (stream.isEnded) this.#end(stream, 'ended')
      },
    })
    this.#lastId = options.role === 'client' ? -1 : 0
  }

  get size(): number {
    return this.#live.size
  }

  /** Of a client: how many streams it may have at a time. */
  get room(): number {
    return this.#lastId + 2 > MAX_STREAM_ID ? 0 : Math.min(this.#options.maxStreams, this.#peerMaxStreams)
  }

  open(headers: readonly Header[], onAnswer: OnAnswer): TunnelStream {
    this.#lastId += 2
    const stream = this.#create(this.#lastId)
    this.#asked.set(stream.id, onAnswer)
    this.#sendHeaders(stream, headers, false)
    return stream
  }

  /** Of a server; `end` ends our direction with it. */
  answer(stream: TunnelStream, headers: readonly Header[], end: boolean): void {
    if (this.#live.has(stream.id)) this.#sendHeaders(stream, headers, end)
  }

  /** Takes no new streams of the peer. Returns the last that was taken. */
  stopAccepting(): number {
    if (this.#options.role === 'client') return 0
    this.#lastAccepted = Math.min(this.#lastAccepted, this.#lastId)
    return this.#lastAccepted
  }

  /** Ends all beyond `lastId` with the connection, or because the peer will not look at them. */
  cutOff(lastId: number, code: ErrorCode): void {
    for (const [id, stream] of this.#live) if (id > lastId) this.#end(stream, 'cut', code)
  }

  applySettings(entries: readonly SettingEntry[]): void {
    for (const [id, value] of entries) {
      if (id === Setting.headerTableSize) this.#encoder.setMaxTableSize(value)
      else if (id === Setting.maxFrameSize) this.outgoing.maxFrameSize = value
      else if (id === Setting.maxConcurrentStreams) this.#peerMaxStreams = value
      else if (id === Setting.initialWindowSize) this.#resizeWindows(value)
    }
  }

  headers(id: number, block: Buffer, endStream: boolean): void {
    const list = this.#decode(id, block)
    if (!list) return
    const stream = this.#live.get(id)
    if (this.#options.role === 'client') this.#answered(stream, id, list, endStream)
    else if (stream) this.#trailers(stream)
    else if (id > this.#lastId) this.#requested(id, list, endStream)
    else this.#late(id)
  }

  data(id: number, piece: Buffer, flowControlled: number, endStream: boolean): void {
    this.incoming.receive(flowControlled)
    const stream = this.#live.get(id)
    if (stream && !stream.remoteEnded && !this.#asked.has(id)) {
      if (!stream.receive(piece, flowControlled, endStream)) {
        this.incoming.consume(flowControlled)
        this.fail(id, ErrorCode.FLOW_CONTROL_ERROR)
      } else if (stream.isEnded) this.#end(stream, 'ended')
      return
    }
    this.incoming.consume(flowControlled)
    if (id > this.#lastId) throw idle('DATA', id)
    if (stream) this.fail(id, stream.remoteEnded ? ErrorCode.STREAM_CLOSED : ErrorCode.PROTOCOL_ERROR)
    else if (this.#ended.get(id) !== 'reset' && id <= this.#lastAccepted)
      this.fail(id, ErrorCode.STREAM_CLOSED)
  }

  rstStream(id: number, code: number): void {
    if (id > this.#lastId) throw idle('RST_STREAM', id)
    const stream = this.#live.get(id)
    if (stream) this.#end(stream, 'cut', code as ErrorCode)
  }

  windowUpdate(id: number, increment: number): void {
    if (id === 0) {
      this.outgoing.grant(increment)
      return
    }
    if (id > this.#lastId) throw idle('WINDOW_UPDATE', id)
    const stream = this.#live.get(id)
    if (!stream) return
    if (stream.sendWindow.add(increment)) this.outgoing.queued(stream, 0)
    else this.fail(id, ErrorCode.FLOW_CONTROL_ERROR)
  }

  /** A stream error (section 5.4.2). */
  fail(id: number, code: ErrorCode): void {
    this.#options.onFault()
    const stream = this.#live.get(id)
    if (stream) stream.reset(code)
    else this.#output.control(rstStreamFrame(id, code))
  }

  get lends(): boolean {
    return this.#options.lends
  }

  get unsentMark(): number {
    return this.outgoing.unsentMark
  }

  send(stream: TunnelStream, chunk: Buffer): number {
    return this.outgoing.send(stream, chunk)
  }

  queued(stream: TunnelStream, bytes: number): void {
    this.outgoing.queued(stream, bytes)
  }

  dropped(bytes: number): void {
    this.outgoing.dropped(bytes)
  }

  consumed(stream: TunnelStream, bytes: number, due: number): void {
    this.incoming.consume(bytes)
    if (due > 0 && !stream.remoteEnded && !stream.isOver) this.incoming.grant(stream, due)
  }

  sendReset(stream: TunnelStream, code: ErrorCode): void {
    if (this.#live.get(stream.id) !== stream) return
    this.#output.control(rstStreamFrame(stream.id, code))
    this.#end(stream, 'reset', code)
  }

  over(stream: TunnelStream): void {
    this.incoming.release(stream)
    this.#options.held.left(stream)
  }

  #create(id: number): TunnelStream {
    const windows = { send: this.#peerWindow, receive: RECEIVE.streamWindow }
    const stream = new TunnelStream(id, this, windows, performance.now())
    this.#live.set(id, stream)
    this.#options.held.opened(stream)
    return stream
  }

  /** It leaves the wire; what it has not delivered yet it goes on delivering. */
  #end(stream: TunnelStream, how: Ending, code: ErrorCode = ErrorCode.NO_ERROR): void {
    const { id } = stream
    if (!this.#live.delete(id)) return
    if (stream.receiveWindow.held === 0) this.#options.held.left(stream)
    this.#ended.set(id, how)
    const [first] = this.#ended.first() ?? []
    if (first !== undefined && this.#ended.size > REMEMBERED) this.#ended.delete(first)
    if (how !== 'ended') stream.cutOff()
    const onAnswer = this.#asked.get(id)
    this.#asked.delete(id)
    onAnswer?.(undefined, code)
    if (this.#live.size === 0) this.#options.onIdle()
  }

  #sendHeaders({ id }: TunnelStream, headers: readonly Header[], end: boolean): void {
    this.#output.control(headersFrames(id, this.#encoder.encode(headers), end, this.outgoing.maxFrameSize))
  }

  /** Undefined: the list is beyond the limit, and its stream is refused. */
  #decode(id: number, block: Buffer): Header[] | undefined {
    try {
      return this.#decoder.decode(block, id)
    } catch (thrown) {
      if (!(thrown instanceof Http2Error) || thrown.streamId === undefined) throw thrown
      this.#options.onLimit('tunnel_headers')
      if (id > this.#lastId && this.#options.role === 'server') this.#lastId = id
      this.fail(id, thrown.code)
      return undefined
    }
  }

  #requested(id: number, list: readonly Header[], endStream: boolean): void {
    this.#lastId = id
    // Beyond the last word of a graceful end: the peer will ask again elsewhere.
    if (id > this.#lastAccepted) return
    if (this.#live.size >= this.#options.maxStreams) {
      this.#options.onLimit('tunnel_streams')
      this.fail(id, ErrorCode.REFUSED_STREAM)
      return
    }
    const stream = this.#create(id)
    const request = readConnect(list, id)
    if (request.kind === 'other') this.#options.onFault()
    if (endStream) stream.receive(Buffer.alloc(0), 0, true)
    this.#options.onRequest(stream, request)
  }

  /** A stream that was connected carries DATA alone (section 8.5). */
  #trailers(stream: TunnelStream): void {
    this.fail(stream.id, stream.remoteEnded ? ErrorCode.STREAM_CLOSED : ErrorCode.PROTOCOL_ERROR)
  }

  #late(id: number): void {
    const how = this.#ended.get(id)
    if (how === 'ended' || how === 'cut')
      throw new Http2Error(ErrorCode.STREAM_CLOSED, `HEADERS on stream ${id}, which has ended`)
    if (how === undefined) throw new Http2Error(ErrorCode.PROTOCOL_ERROR, `stream ${id} was passed over`)
  }

  #answered(stream: TunnelStream | undefined, id: number, list: readonly Header[], endStream: boolean): void {
    if (id > this.#lastId) throw idle('HEADERS', id)
    if (!stream) return
    const onAnswer = this.#asked.get(id)
    const answer = onAnswer && readAnswer(list, id)
    if (!answer) {
      this.fail(id, ErrorCode.PROTOCOL_ERROR)
      return
    }
    if (answer.status < 200 && !endStream) return
    this.#asked.delete(id)
    if (endStream) stream.receive(Buffer.alloc(0), 0, true)
    onAnswer(answer, ErrorCode.NO_ERROR)
  }

  #resizeWindows(window: number): void {
    const by = window - this.#peerWindow
    this.#peerWindow = window
    for (const [, stream] of this.#live) {
      if (!stream.sendWindow.add(by))
        throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, `the window of stream ${stream.id} overflows`)
      this.outgoing.queued(stream, 0)
    }
  }
}

const idle = (frame: string, id: number) =>
  new Http2Error(ErrorCode.PROTOCOL_ERROR, `${frame} on stream ${id}, which is idle`)

// The streams of one session: what frames of streams mean in each state (RFC 9113, section 5.1), both windows of the
// connection, and whose DATA is written next.
import { ErrorCode, Http2Error } from '../http2/errors.ts'
import {
  FRAME_HEADER_BYTES,
  headersFrames,
  INITIAL,
  MAX_STREAM_ID,
  rstStreamFrame,
  Setting,
  type SettingEntry,
  windowUpdateFrame,
} from '../http2/frames.ts'
import type { Header } from '../http2/header.ts'
import { HpackDecoder } from '../http2/hpack-decoder.ts'
import { HpackEncoder } from '../http2/hpack-encoder.ts'
import type { Limit } from './abuse.ts'
import { type Answer, readAnswer, readConnect, type TunnelHead } from './connect-headers.ts'
import { type Allowance, ReceiveWindow, SendWindow } from './flow-control.ts'
import type { Output } from './output.ts'
import { Scheduler } from './scheduler.ts'
import { RECEIVE, SEND } from './settings.ts'
import { type StreamOwner, TunnelStream } from './stream.ts'

export type StreamsOptions = {
  readonly role: 'client' | 'server'
  /** At a time. */
  readonly maxStreams: number
  /** What windows may grow by, shared with other sessions. */
  readonly growth: Allowance
  onRequest(stream: TunnelStream, request: TunnelHead): void
  onLimit(limit: Limit): void
  /** The last stream is gone. */
  onIdle(): void
  /** The peer broke a rule, which costs it its stream. @throws Http2Error if it does so too often */
  onFault(): void
}

/** What became of a request: an answer, or the code of the stream's end without one. */
export type OnAnswer = (answer: Answer | undefined, code: ErrorCode) => void

/** Streams that have just ended, to tell a late frame from a wrong one. */
const REMEMBERED = 1024
/** A DATA frame begins only where so much fits. */
const LEAST_ROOM = 1024

export const connectionWindow = (maxStreams: number): number =>
  maxStreams * RECEIVE.streamWindow + RECEIVE.growth + RECEIVE.connectionStep

export class Streams implements StreamOwner {
  /** An estimate, milliseconds. */
  roundTrip = 1
  readonly #options: StreamsOptions
  readonly #output: Output
  readonly #live = new Map<number, TunnelStream>()
  readonly #asked = new Map<number, OnAnswer>()
  readonly #ended = new Map<number, 'ended' | 'reset'>()
  readonly #scheduler = new Scheduler<TunnelStream>()
  readonly #sendWindow = new SendWindow(INITIAL.window)
  readonly #receiveWindow: ReceiveWindow
  readonly #encoder = new HpackEncoder()
  readonly #decoder = new HpackDecoder({
    maxTableSize: INITIAL.headerTableSize,
    maxListSize: RECEIVE.maxHeaderListSize,
  })
  #written: TunnelStream[] = []
  #unsent = 0
  #lastId: number
  #lastAccepted = MAX_STREAM_ID
  #peer = {
    window: INITIAL.window as number,
    maxFrameSize: INITIAL.maxFrameSize as number,
    maxConcurrentStreams: Number.POSITIVE_INFINITY,
  }

  constructor(options: StreamsOptions, output: Output) {
    this.#options = options
    this.#output = output
    this.#receiveWindow = new ReceiveWindow(connectionWindow(options.maxStreams), RECEIVE.connectionStep)
    this.#lastId = options.role === 'client' ? -1 : 0
  }

  get size(): number {
    return this.#live.size
  }

  /** Of a client: how many streams it may have at a time. */
  get room(): number {
    const { maxConcurrentStreams } = this.#peer
    return this.#lastId + 2 > MAX_STREAM_ID ? 0 : Math.min(this.#options.maxStreams, maxConcurrentStreams)
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
    this.#lastAccepted = Math.min(this.#lastAccepted, this.#lastId)
    return this.#lastAccepted
  }

  /** Ends all beyond `lastId` with the connection, or because the peer will not look at them. */
  cutOff(lastId: number, code: ErrorCode): void {
    for (const stream of [...this.#live.values()]) if (stream.id > lastId) this.#end(stream, 'reset', code)
  }

  applySettings(entries: readonly SettingEntry[]): void {
    for (const [id, value] of entries) {
      if (id === Setting.headerTableSize) this.#encoder.setMaxTableSize(value)
      else if (id === Setting.maxFrameSize) this.#peer.maxFrameSize = value
      else if (id === Setting.maxConcurrentStreams) this.#peer.maxConcurrentStreams = value
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
    if (!this.#receiveWindow.receive(flowControlled))
      throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, 'more than the connection’s window')
    const stream = this.#live.get(id)
    if (stream && !stream.remoteEnded && !this.#asked.has(id)) {
      if (!stream.receive(piece, flowControlled, endStream)) this.fail(id, ErrorCode.FLOW_CONTROL_ERROR)
      else if (stream.isEnded) this.#end(stream, 'ended')
      return
    }
    this.#creditConnection(flowControlled)
    if (id > this.#lastId) throw idle('DATA', id)
    if (stream) this.fail(id, stream.remoteEnded ? ErrorCode.STREAM_CLOSED : ErrorCode.PROTOCOL_ERROR)
    else if (this.#ended.get(id) !== 'reset' && id <= this.#lastAccepted)
      this.fail(id, ErrorCode.STREAM_CLOSED)
  }

  rstStream(id: number, code: number): void {
    if (id > this.#lastId) throw idle('RST_STREAM', id)
    const stream = this.#live.get(id)
    if (stream) this.#end(stream, 'reset', code as ErrorCode)
  }

  windowUpdate(id: number, increment: number): void {
    if (id === 0) {
      if (!this.#sendWindow.add(increment))
        throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, 'the connection’s window overflows')
      this.#output.wake()
      return
    }
    if (id > this.#lastId) throw idle('WINDOW_UPDATE', id)
    const stream = this.#live.get(id)
    if (!stream) return
    if (stream.sendWindow.add(increment)) this.#wake(stream)
    else this.fail(id, ErrorCode.FLOW_CONTROL_ERROR)
  }

  /** A stream error (section 5.4.2). */
  fail(id: number, code: ErrorCode): void {
    this.#options.onFault()
    const stream = this.#live.get(id)
    if (stream) stream.reset(code)
    else this.#output.control(rstStreamFrame(id, code))
  }

  /** Frames of streams from `from` on. Returns the offset behind. */
  fill(block: Buffer, from: number): number {
    let at = from
    this.#scheduler.serve(block.length - from, (stream, most) => {
      const room = block.length - at - FRAME_HEADER_BYTES
      const bytes = Math.min(most, room, this.#peer.maxFrameSize, Math.max(0, this.#sendWindow.available))
      if (room < LEAST_ROOM || (stream.unsent > 0 && bytes === 0)) return 0
      const end = stream.writeFrame(block, at, bytes)
      const sent = end - at
      this.#sendWindow.take(sent - FRAME_HEADER_BYTES)
      this.#unsent -= sent - FRAME_HEADER_BYTES
      if (this.#written.at(-1) !== stream) this.#written.push(stream)
      at = end
      return sent
    })
    return at
  }

  onFilled(): void {
    const written = this.#written
    if (written.length === 0) return
    this.#written = []
    for (const stream of written) {
      stream.onWritten()
      if (stream.isEnded) this.#end(stream, 'ended')
    }
  }

  get unsentMark(): number {
    return this.#unsent > SEND.unsent ? 0 : SEND.unsentPerStream
  }

  queued(stream: TunnelStream, bytes: number): void {
    const before = this.#unsent
    this.#unsent += bytes
    if (before <= SEND.unsent && this.#unsent > SEND.unsent) this.#options.onLimit('tunnel_unsent')
    this.#wake(stream)
  }

  dropped(bytes: number): void {
    this.#unsent -= bytes
  }

  consumed(stream: TunnelStream, bytes: number, due: number): void {
    this.#creditConnection(bytes)
    if (due > 0 && !stream.remoteEnded && !stream.isOver)
      this.#output.control(windowUpdateFrame(stream.id, due + this.#grow(stream)))
  }

  sendReset(stream: TunnelStream, code: ErrorCode): void {
    if (this.#live.get(stream.id) !== stream) return
    this.#output.control(rstStreamFrame(stream.id, code))
    this.#end(stream, 'reset', code)
  }

  over({ receiveWindow }: TunnelStream): void {
    this.#options.growth.give(receiveWindow.limit - RECEIVE.streamWindow)
  }

  #create(id: number): TunnelStream {
    const windows = { send: this.#peer.window, receive: RECEIVE.streamWindow }
    const stream = new TunnelStream(id, this, windows, performance.now())
    this.#live.set(id, stream)
    return stream
  }

  /** It leaves the wire; what it has not delivered yet it goes on delivering. */
  #end(stream: TunnelStream, how: 'ended' | 'reset', code: ErrorCode = ErrorCode.NO_ERROR): void {
    const { id } = stream
    if (!this.#live.delete(id)) return
    this.#ended.set(id, how)
    if (this.#ended.size > REMEMBERED)
      for (const first of this.#ended.keys()) {
        this.#ended.delete(first)
        break
      }
    if (how === 'reset') stream.cutOff()
    const onAnswer = this.#asked.get(id)
    this.#asked.delete(id)
    onAnswer?.(undefined, code)
    if (this.#live.size === 0) this.#options.onIdle()
  }

  #wake(stream: TunnelStream): void {
    this.#scheduler.add(stream)
    if (stream.turn.queued) this.#output.wake()
  }

  #sendHeaders({ id }: TunnelStream, headers: readonly Header[], end: boolean): void {
    this.#output.control(headersFrames(id, this.#encoder.encode(headers), end, this.#peer.maxFrameSize))
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
    if (endStream) stream.receive(Buffer.alloc(0), 0, true)
    this.#options.onRequest(stream, request)
  }

  /** A stream that was connected carries DATA alone (section 8.5). */
  #trailers(stream: TunnelStream): void {
    this.fail(stream.id, stream.remoteEnded ? ErrorCode.STREAM_CLOSED : ErrorCode.PROTOCOL_ERROR)
  }

  #late(id: number): void {
    const how = this.#ended.get(id)
    if (how === 'ended')
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
    const by = window - this.#peer.window
    this.#peer.window = window
    for (const stream of this.#live.values()) {
      if (!stream.sendWindow.add(by))
        throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, `the window of stream ${stream.id} overflows`)
      this.#wake(stream)
    }
  }

  #creditConnection(bytes: number): void {
    const due = this.#receiveWindow.consume(bytes)
    if (due > 0) this.#output.control(windowUpdateFrame(0, due))
  }

  /** A stream that uses up half of its window within some round trips would be faster with a larger one. */
  #grow(stream: TunnelStream): number {
    const now = performance.now()
    const quick = now - stream.creditedAt < 4 * this.roundTrip
    stream.creditedAt = now
    const { receiveWindow } = stream
    const wanted = Math.min(receiveWindow.limit, RECEIVE.mostStreamWindow - receiveWindow.limit)
    return quick && wanted > 0 ? receiveWindow.grow(this.#options.growth.take(wanted)) : 0
  }
}

const idle = (frame: string, id: number) =>
  new Http2Error(ErrorCode.PROTOCOL_ERROR, `${frame} on stream ${id}, which is idle`)

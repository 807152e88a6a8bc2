// What the application sends: answers are read only as far as the gate must know them, and everything passes. Frames of
// streams that are over on the caller's side end here, and are paid back to the application's window.

import type { Http2Error } from '../../http2/errors.ts'
import { checkTrailers, readResponse } from '../../http2/fields.ts'
import { type FrameHandler, FrameReader } from '../../http2/frame-reader.ts'
import {
  goawayFrame,
  INITIAL,
  pingFrame,
  rstStreamFrame,
  Setting,
  type SettingEntry,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../../http2/frames.ts'
import type { Header } from '../../http2/header.ts'
import { HpackDecoder } from '../../http2/hpack-decoder.ts'
import { badAnswer, HttpRefusal } from '../refusal.ts'
import { LIMITS } from './limits.ts'
import type { Link } from './link.ts'
import { badAnswerOf, streamErrorOf } from './refusals.ts'
import { longestFrame, settingsForCaller } from './settings.ts'
import type { GatedStream } from './streams.ts'

/** Each piece of content may be answered by so many WINDOW_UPDATE and PING frames. */
const EARNED_BY_CONTENT = 4

export class ApplicationSide implements FrameHandler {
  readonly #link: Link
  readonly #reader = new FrameReader(this, { from: 'server', maxFrameSize: INITIAL.maxFrameSize })
  readonly #hpack = new HpackDecoder({
    maxTableSize: INITIAL.headerTableSize,
    maxListSize: LIMITS.answerListBytes,
  })
  #first = true
  #swallowed = 0

  constructor(link: Link) {
    this.#link = link
  }

  /** @throws Http2Error of the connection. */
  read(chunk: Buffer): void {
    this.#reader.setMaxFrameSize(this.#link.maxFrameSize.fromApplication)
    this.#reader.push(chunk)
    if (this.#swallowed > 0) this.#link.toApplication.add(windowUpdateFrame(0, this.#swallowed))
    this.#swallowed = 0
  }

  stop(): void {
    this.#reader.stop()
  }

  headers(streamId: number, block: Buffer, endStream: boolean): void {
    const list = this.#decode(block, streamId)
    const stream = this.#link.streams.get(streamId)
    if (!stream) return
    try {
      this.#check(stream, list, endStream)
    } catch (thrown) {
      this.#link.cutAnswer(stream, badAnswerOf(thrown))
      return
    }
    if (list instanceof HttpRefusal) return
    this.#link.headersToCaller(streamId, list, endStream)
    if (endStream) this.#link.streams.applicationEnded(stream)
  }

  data(streamId: number, piece: Buffer, flowControlled: number, endStream: boolean): void {
    this.#link.control.earn(EARNED_BY_CONTENT)
    const stream = this.#link.streams.get(streamId)
    const isAnswer = stream !== undefined && stream.status > 0 && !stream.applicationEnded
    if (isAnswer) {
      this.#link.toCaller.data(streamId, piece, flowControlled, endStream)
      if (endStream) this.#link.streams.applicationEnded(stream)
      return
    }
    this.#swallowed += flowControlled
    if (stream) this.#link.cutAnswer(stream, badAnswer('content outside of an answer'))
  }

  rstStream(streamId: number, code: number): void {
    const stream = this.#link.streams.get(streamId)
    if (!stream) return
    this.#link.toCaller.add(rstStreamFrame(streamId, code))
    this.#link.streams.close(stream)
  }

  windowUpdate(streamId: number, increment: number): void {
    if (streamId === 0 || this.#link.streams.get(streamId))
      this.#link.toCaller.add(windowUpdateFrame(streamId, increment))
  }

  settings(entries: readonly SettingEntry[]): void {
    const { applicationSettings, maxFrameSize } = this.#link
    applicationSettings.sent(entries)
    maxFrameSize.fromCaller = longestFrame(entries, maxFrameSize.fromCaller)
    for (const [id, value] of entries)
      if (id === Setting.enableConnectProtocol) this.#link.connectProtocol = value === 1
    const frame = settingsFrame(settingsForCaller(entries, this.#first))
    if (this.#first) this.#link.toCaller.release(frame)
    else this.#link.toCaller.add(frame)
    this.#first = false
    this.#link.control.earn(1)
  }

  settingsAck(): void {
    this.#link.callerSettings.acknowledged()
    this.#link.toCaller.add(settingsAckFrame())
  }

  ping(opaque: Buffer, ack: boolean): void {
    if (!ack) this.#link.control.earn(1)
    this.#link.toCaller.add(pingFrame(opaque, ack))
  }

  /** What it will not serve is over: the caller repeats it elsewhere. */
  goaway(lastStreamId: number, code: number, debug: Buffer): void {
    this.#link.lastServed = Math.min(this.#link.lastServed, lastStreamId)
    this.#link.toCaller.add(goawayFrame(this.#link.lastServed, code, debug))
    this.#link.streams.abandon(lastStreamId)
  }

  priority(): void {}

  unknown(): void {}

  streamError(error: Http2Error): void {
    const stream = this.#link.streams.get(error.streamId ?? 0)
    if (stream) this.#link.cutAnswer(stream, badAnswerOf(error))
  }

  #decode(block: Buffer, streamId: number): readonly Header[] | HttpRefusal {
    try {
      return this.#hpack.decode(block, streamId)
    } catch (thrown) {
      return badAnswerOf(streamErrorOf(thrown))
    }
  }

  /** Interim answers, the final one, trailers, in this order (RFC 9113, section 8.1). @throws Http2Error, HttpRefusal */
  #check(stream: GatedStream, list: readonly Header[] | HttpRefusal, endStream: boolean): void {
    if (list instanceof HttpRefusal) throw list
    if (stream.applicationEnded) throw badAnswer('an answer behind its end')
    if (stream.status > 0) {
      if (!endStream) throw badAnswer('trailers that do not end the stream')
      checkTrailers(list, stream.id)
      return
    }
    const { status } = readResponse(list, stream.id)
    if (status >= 200) stream.status = status
    else if (endStream) throw badAnswer('an interim answer that ends the stream')
  }
}

// Cuts a connection's bytes into frames (RFC 9113, sections 4 to 6), however they are split. It checks what can be checked
// without knowing streams or windows, and ends with a connection error at the first byte that cannot be right. DATA is
// handed on in the pieces in which it comes, without a copy; every other frame is small and handed on whole.
import { ErrorCode, Http2Error } from './errors.ts'
import { checkLength, checkSettings, checkStreamId } from './frame-checks.ts'
import { CONNECTION_PREFACE, Flag, FRAME_HEADER_BYTES, FrameType, type SettingEntry } from './frames.ts'

/** Calls come during `push`. Buffers are views of the chunks that were pushed. */
export type FrameHandler = {
  /**
   * A piece of a DATA frame, empty if the frame is. `flowControlled` is what it takes from the windows: over a frame's
   * pieces it adds up to the frame's length with padding. `endStream` comes with the last piece alone.
   */
  data(streamId: number, piece: Buffer, flowControlled: number, endStream: boolean): void
  /** A whole header block, joined of HEADERS and CONTINUATION; still compressed. */
  headers(streamId: number, block: Buffer, endStream: boolean): void
  /** `payload` is its 5 bytes, deprecated and uninterpreted. */
  priority(streamId: number, payload: Buffer): void
  rstStream(streamId: number, code: number): void
  /** The values are in their ranges; unknown settings are among them. */
  settings(entries: readonly SettingEntry[]): void
  settingsAck(): void
  ping(opaque: Buffer, ack: boolean): void
  goaway(lastStreamId: number, code: number, debug: Buffer): void
  /** `streamId` 0 is the connection. */
  windowUpdate(streamId: number, increment: number): void
  /** A frame of an unknown type, which means nothing. */
  unknown(type: number): void
  /** A frame was dropped that is an error of its stream alone. */
  streamError(error: Http2Error): void
}

export type FrameReaderOptions = {
  /** Who sends: a client's connection begins with the preface, and its streams have odd numbers on both sides. */
  readonly from: 'client' | 'server'
  /** Our own SETTINGS_MAX_FRAME_SIZE. */
  readonly maxFrameSize: number
}

/** Of one compressed header block. */
const MAX_BLOCK_BYTES = 64 * 1024
/** CONTINUATION frames of one block; empty ones cost nothing to send (CVE-2024-27316). */
const MAX_CONTINUATIONS = 8

const NOTHING = Buffer.alloc(0)

export class FrameReader {
  readonly #handler: FrameHandler
  readonly #from: 'client' | 'server'
  #maxFrameSize: number

  #prefaceLeft: number
  #first = true
  #frames = 0
  #stopped = false

  /** A frame header that is split over chunks. */
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES)
  #headerFilled = 0

  /** The frame whose payload is being read; `#left` is what has not come yet. */
  #inFrame = false
  #type = 0
  #flags = 0
  #streamId = 0
  #left = 0

  /** Of a DATA frame: whether its pad length is still to be read, what counts with the next piece, bytes of padding. */
  #padUnread = false
  #uncounted = 0
  #padding = 0

  /** Of any other frame that is split over chunks. */
  #partial: Buffer = NOTHING
  #partialFilled = 0

  /** A header block that CONTINUATION must complete before any other frame. */
  #fragments: Buffer[] = []
  #blockStream = 0
  #blockSize = 0
  #blockEndsStream = false

  constructor(handler: FrameHandler, options: FrameReaderOptions) {
    this.#handler = handler
    this.#from = options.from
    this.#maxFrameSize = options.maxFrameSize
    this.#prefaceLeft = options.from === 'client' ? CONNECTION_PREFACE.length : 0
  }

  /** Frames that have begun; a header block is one. */
  get frames(): number {
    return this.#frames
  }

  /** Something has begun, or must come first, that is acted on only when it is whole. DATA is not waited for. */
  get isWaiting(): boolean {
    if (this.#first || this.#headerFilled > 0 || this.#blockStream !== 0) return true
    return this.#inFrame && this.#type !== FrameType.data
  }

  /** Another SETTINGS_MAX_FRAME_SIZE of ours. */
  setMaxFrameSize(bytes: number): void {
    this.#maxFrameSize = bytes
  }

  /** After it, nothing is delivered any more, not even of the chunk that is being read. */
  stop(): void {
    this.#stopped = true
  }

  /** @throws Http2Error, and what the handler throws; the reader is of no use after that. */
  push(chunk: Buffer): void {
    let at = this.#prefaceLeft > 0 ? this.#preface(chunk) : 0
    while (at < chunk.length && !this.#stopped) {
      if (!this.#inFrame) at = this.#readHeader(chunk, at)
      else if (this.#type === FrameType.data) at = this.#readData(chunk, at)
      else if (this.#type > FrameType.continuation) at = this.#skip(chunk, at)
      else at = this.#readPayload(chunk, at)
    }
  }

  #preface(chunk: Buffer): number {
    const from = CONNECTION_PREFACE.length - this.#prefaceLeft
    const length = Math.min(chunk.length, this.#prefaceLeft)
    if (chunk.compare(CONNECTION_PREFACE, from, from + length, 0, length) !== 0) {
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, 'the connection does not begin with the preface')
    }
    this.#prefaceLeft -= length
    return length
  }

  #readHeader(chunk: Buffer, at: number): number {
    if (this.#headerFilled === 0 && chunk.length - at >= FRAME_HEADER_BYTES) {
      this.#begin(chunk, at)
      return at + FRAME_HEADER_BYTES
    }
    const copied = chunk.copy(this.#header, this.#headerFilled, at)
    this.#headerFilled += copied
    if (this.#headerFilled === FRAME_HEADER_BYTES) {
      this.#headerFilled = 0
      this.#begin(this.#header, 0)
    }
    return at + copied
  }

  #begin(header: Buffer, at: number): void {
    const length = header.readUIntBE(at, 3)
    this.#type = header[at + 3] ?? 0
    this.#flags = header[at + 4] ?? 0
    this.#streamId = readUint31(header, at + 5)
    this.#left = length
    this.#check(length)
    if (this.#type !== FrameType.continuation) this.#frames += 1
    if (this.#type === FrameType.data) this.#beginData(length)
    else if (length > 0) this.#inFrame = true
    else if (this.#type > FrameType.continuation) this.#handler.unknown(this.#type)
    else this.#dispatch(NOTHING)
  }

  #check(length: number): void {
    const type = this.#type
    if (length > this.#maxFrameSize) {
      throw new Http2Error(ErrorCode.FRAME_SIZE_ERROR, `a frame of ${length} bytes`)
    }
    if (this.#blockStream !== 0) {
      if (type !== FrameType.continuation || this.#streamId !== this.#blockStream)
        throw new Http2Error(ErrorCode.PROTOCOL_ERROR, 'another frame within a header block')
    } else if (type === FrameType.continuation) {
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, 'CONTINUATION without a header block')
    }
    if (this.#first && (type !== FrameType.settings || (this.#flags & Flag.ack) !== 0)) {
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, 'the first frame is not SETTINGS')
    }
    this.#first = false
    checkStreamId(type, this.#streamId)
    checkLength(type, this.#flags, length)
  }

  #beginData(length: number): void {
    this.#padUnread = (this.#flags & Flag.padded) !== 0
    this.#padding = 0
    this.#uncounted = 0
    if (length > 0) this.#inFrame = true
    else this.#handler.data(this.#streamId, NOTHING, 0, (this.#flags & Flag.endStream) !== 0)
  }

  #readData(chunk: Buffer, from: number): number {
    let at = from
    if (this.#padUnread) {
      this.#padUnread = false
      this.#padding = chunk[at] ?? 0
      at += 1
      this.#left -= 1
      if (this.#padding > this.#left) throw paddingError()
      this.#uncounted = 1 + this.#padding
      this.#inFrame = this.#left > 0
      if (this.#left === this.#padding) this.#deliver(NOTHING, true)
      return at
    }
    const wanted = this.#left - this.#padding
    if (wanted <= 0) return this.#skip(chunk, at)
    const taken = Math.min(wanted, chunk.length - at)
    this.#left -= taken
    this.#inFrame = this.#left > 0
    const whole = taken === chunk.length
    this.#deliver(whole ? chunk : chunk.subarray(at, at + taken), taken === wanted)
    return at + taken
  }

  #deliver(piece: Buffer, last: boolean): void {
    const flowControlled = piece.length + this.#uncounted
    this.#uncounted = 0
    this.#handler.data(this.#streamId, piece, flowControlled, last && (this.#flags & Flag.endStream) !== 0)
  }

  /** Padding of DATA, or a frame of an unknown type. */
  #skip(chunk: Buffer, at: number): number {
    const skipped = Math.min(this.#left, chunk.length - at)
    this.#left -= skipped
    if (this.#left === 0) {
      this.#inFrame = false
      if (this.#type > FrameType.continuation) this.#handler.unknown(this.#type)
    }
    return at + skipped
  }

  #readPayload(chunk: Buffer, at: number): number {
    if (this.#partialFilled === 0 && chunk.length - at >= this.#left) {
      this.#inFrame = false
      this.#dispatch(chunk.subarray(at, at + this.#left))
      return at + this.#left
    }
    if (this.#partialFilled === 0) this.#partial = Buffer.allocUnsafe(this.#left)
    const copied = chunk.copy(this.#partial, this.#partialFilled, at)
    this.#partialFilled += copied
    if (this.#partialFilled === this.#partial.length) {
      const payload = this.#partial
      this.#partial = NOTHING
      this.#partialFilled = 0
      this.#inFrame = false
      this.#dispatch(payload)
    }
    return at + copied
  }

  #dispatch(payload: Buffer): void {
    const ack = (this.#flags & Flag.ack) !== 0
    switch (this.#type) {
      case FrameType.headers:
        this.#beginBlock(payload)
        break
      case FrameType.continuation:
        this.#continueBlock(payload)
        break
      case FrameType.priority:
        this.#priority(payload)
        break
      case FrameType.rstStream:
        this.#handler.rstStream(this.#streamId, payload.readUInt32BE(0))
        break
      case FrameType.settings:
        if (ack) this.#handler.settingsAck()
        else this.#handler.settings(checkSettings(payload, this.#from))
        break
      case FrameType.ping:
        this.#handler.ping(payload, ack)
        break
      case FrameType.goaway:
        this.#handler.goaway(readUint31(payload, 0), payload.readUInt32BE(4), payload.subarray(8))
        break
      case FrameType.windowUpdate:
        this.#windowUpdate(readUint31(payload, 0))
    }
  }

  #priority(payload: Buffer): void {
    if (payload.length === 5) {
      checkDependency(payload, 0, this.#streamId)
      this.#handler.priority(this.#streamId, payload)
    } else {
      const why = `PRIORITY of ${payload.length} bytes`
      this.#handler.streamError(new Http2Error(ErrorCode.FRAME_SIZE_ERROR, why, this.#streamId))
    }
  }

  #windowUpdate(increment: number): void {
    if (increment > 0) this.#handler.windowUpdate(this.#streamId, increment)
    else if (this.#streamId === 0) throw new Http2Error(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0')
    else {
      const error = new Http2Error(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE of 0', this.#streamId)
      this.#handler.streamError(error)
    }
  }

  #beginBlock(payload: Buffer): void {
    let from = 0
    let to = payload.length
    if ((this.#flags & Flag.padded) !== 0) {
      to -= payload[0] ?? 0
      from = 1
    }
    if ((this.#flags & Flag.priority) !== 0) {
      if (from + 5 > to) throw paddingError()
      checkDependency(payload, from, this.#streamId)
      from += 5
    }
    if (from > to) throw paddingError()
    const fragment = payload.subarray(from, to)
    const endStream = (this.#flags & Flag.endStream) !== 0
    if (fragment.length > MAX_BLOCK_BYTES) throw blockTooLarge()
    if ((this.#flags & Flag.endHeaders) !== 0) this.#handler.headers(this.#streamId, fragment, endStream)
    else {
      this.#blockStream = this.#streamId
      this.#blockEndsStream = endStream
      this.#blockSize = fragment.length
      this.#fragments = [Buffer.from(fragment)]
    }
  }

  #continueBlock(fragment: Buffer): void {
    this.#blockSize += fragment.length
    if (this.#blockSize > MAX_BLOCK_BYTES || this.#fragments.length > MAX_CONTINUATIONS) throw blockTooLarge()
    this.#fragments.push(Buffer.from(fragment))
    if ((this.#flags & Flag.endHeaders) === 0) return
    const block = Buffer.concat(this.#fragments, this.#blockSize)
    const streamId = this.#blockStream
    this.#fragments = []
    this.#blockStream = 0
    this.#handler.headers(streamId, block, this.#blockEndsStream)
  }
}

function checkDependency(payload: Buffer, at: number, streamId: number): void {
  if (readUint31(payload, at) === streamId)
    throw new Http2Error(ErrorCode.PROTOCOL_ERROR, 'a stream that depends on itself')
}

/** The highest bit is reserved, or a flag without meaning any more. */
const readUint31 = (from: Buffer, at: number): number => from.readUInt32BE(at) & 0x7fffffff

const paddingError = () => new Http2Error(ErrorCode.PROTOCOL_ERROR, 'more padding than payload')
const blockTooLarge = () => new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, 'a header block beyond the limit')

// Frames on their way to one side: gathered while a chunk of the other side is read, written as one piece. Every frame is
// written whole, so that one of our own may stand between any two.
import { Flag, FRAME_HEADER_BYTES, FrameType, writeDataHeader, writeFrameHeader } from '../../http2/frames.ts'
import type { ByteStream } from '../../tunnel/byte-stream.ts'
import { LIMITS } from './limits.ts'

export class Outbox {
  readonly #stream: ByteStream
  readonly #count: (bytes: number) => void
  #frames: Buffer[] = []
  #bytes = 0
  #held: boolean
  #full = false
  #closed = false

  /** `held`: nothing is written before `release`. */
  constructor(stream: ByteStream, count: (bytes: number) => void, held: boolean) {
    this.#stream = stream
    this.#count = count
    this.#held = held
  }

  get isHeld(): boolean {
    return this.#held
  }

  /** The other side is slow: whoever writes here should not be read from. */
  get isFull(): boolean {
    return this.#full || this.#bytes > LIMITS.heldBytes
  }

  add(frame: Buffer): void {
    if (this.#closed) return
    this.#frames.push(frame)
    this.#bytes += frame.length
  }

  /** A piece of DATA as a frame of its own that takes as much from the windows as the piece did: padding included. */
  data(streamId: number, piece: Buffer, flowControlled: number, endStream: boolean): void {
    const added = flowControlled - piece.length
    if (added > 0) this.add(padded(streamId, piece, added, endStream))
    else {
      const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES)
      writeDataHeader(header, 0, streamId, piece.length, endStream)
      this.add(header)
      if (piece.length > 0) this.add(piece)
    }
  }

  /** `first` goes before everything that was held. */
  release(first: Buffer): void {
    if (!this.#held) return
    this.#held = false
    this.#frames.unshift(first)
    this.#bytes += first.length
  }

  flush(): void {
    const [only, ...more] = this.#frames
    if (only === undefined || this.#held || this.#closed) return
    const bytes = more.length === 0 ? only : Buffer.concat(this.#frames, this.#bytes)
    this.#frames = []
    this.#bytes = 0
    this.#count(bytes.length)
    if (!this.#stream.write(bytes)) this.#full = true
  }

  drained(): void {
    this.#full = false
  }

  /** The orderly end, behind what was added. */
  end(): void {
    if (this.#closed) return
    this.flush()
    this.#closed = true
    this.#stream.end()
  }

  /** The end that is none: what was added goes nowhere. */
  reset(): void {
    this.#closed = true
    this.#frames = []
    this.#bytes = 0
    this.#stream.reset()
  }
}

/** `added` is the byte of the pad length and the padding. */
function padded(streamId: number, piece: Buffer, added: number, endStream: boolean): Buffer {
  const length = piece.length + added
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + length)
  const flags = Flag.padded | (endStream ? Flag.endStream : 0)
  const at = writeFrameHeader(frame, 0, length, FrameType.data, flags, streamId)
  frame[at] = added - 1
  piece.copy(frame, at + 1)
  return frame
}

// Bytes that wait, for a reader or for a window: copies, since what was written is only lent, in memory of about their size
// however small the pieces were.

import { CHUNK_BYTES, giveChunk, takeChunk } from './blocks.ts'

const LEAST_BLOCK = 4096

export class ByteQueue {
  #chunks: Buffer[] = []
  #length = 0
  /** What the last chunk can still grow into. */
  #room = 0

  get length(): number {
    return this.#length
  }

  push(bytes: Buffer): void {
    if (bytes.length === 0) return
    this.#length += bytes.length
    if (bytes.length <= this.#room) this.#extend(bytes)
    else {
      const block = blockFor(bytes.length)
      bytes.copy(block)
      this.#chunks.push(block.subarray(0, bytes.length))
      this.#room = block.length - bytes.length
    }
  }

  /** The first chunk, which is the caller's now. */
  shift(): Buffer | undefined {
    const chunk = this.#chunks.shift()
    if (chunk) this.#length -= chunk.length
    if (this.#chunks.length === 0) this.#room = 0
    return chunk
  }

  /** Moves the first `bytes`, which must be there, to `at`. Returns the offset behind. */
  moveTo(target: Buffer, at: number, bytes: number): number {
    let to = at
    const end = at + bytes
    while (to < end) {
      const chunk = this.#chunks[0]
      if (!chunk) break
      const copied = chunk.copy(target, to, 0, end - to)
      to += copied
      if (copied === chunk.length) this.#drop(chunk)
      else {
        this.#chunks[0] = chunk.subarray(copied)
        this.#length -= copied
      }
    }
    return to
  }

  /** Returns how many bytes there were. */
  clear(): number {
    const length = this.#length
    this.#chunks = []
    this.#length = 0
    this.#room = 0
    return length
  }

  #drop(chunk: Buffer): void {
    this.shift()
    if (chunk.buffer.byteLength === CHUNK_BYTES) giveChunk(Buffer.from(chunk.buffer))
  }

  #extend(bytes: Buffer): void {
    const last = this.#chunks.length - 1
    const chunk = this.#chunks[last]
    if (!chunk) return
    const extended = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length + bytes.length)
    bytes.copy(extended, chunk.length)
    this.#chunks[last] = extended
    this.#room -= bytes.length
  }
}

const blockFor = (bytes: number): Buffer =>
  bytes > CHUNK_BYTES / 2 && bytes <= CHUNK_BYTES
    ? takeChunk()
    : Buffer.allocUnsafeSlow(Math.max(LEAST_BLOCK, bytes))

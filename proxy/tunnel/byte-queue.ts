// Bytes that wait, for a reader or for a window. What is held is about what is counted: a few bytes of a large chunk, and
// many small chunks, are copied together.

/** Chunks below it are copied into blocks of their own while others wait before them. */
const SMALL = 1024
const BLOCK = 4096
/** A chunk that is a smaller share of its memory is copied. */
const WASTE = 4

export class ByteQueue {
  #chunks: Buffer[] = []
  #length = 0
  /** What the last chunk can still grow into, if it is a block of ours. */
  #room = 0

  get length(): number {
    return this.#length
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return
    this.#length += chunk.length
    if (this.#chunks.length === 0 || chunk.length >= SMALL) {
      const wasteful = chunk.length * WASTE < chunk.buffer.byteLength && chunk.length >= SMALL
      this.#chunks.push(wasteful ? Buffer.from(chunk) : chunk)
      this.#room = 0
    } else this.#append(chunk)
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
      if (copied === chunk.length) this.shift()
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

  #append(chunk: Buffer): void {
    if (chunk.length > this.#room) {
      const block = Buffer.allocUnsafeSlow(BLOCK)
      chunk.copy(block)
      this.#chunks.push(block.subarray(0, chunk.length))
      this.#room = BLOCK - chunk.length
      return
    }
    const last = this.#chunks.length - 1
    const block = this.#chunks[last]
    if (!block) return
    const grown = Buffer.from(block.buffer, block.byteOffset, block.length + chunk.length)
    chunk.copy(grown, block.length)
    this.#chunks[last] = grown
    this.#room -= chunk.length
  }
}

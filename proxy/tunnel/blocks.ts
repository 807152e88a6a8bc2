// Blocks of memory that are used again: those that writes are gathered in, lent for the time of a write, and those that
// bulk waits in. Made anew each time, they are most of what there would be to collect. An idle tunnel holds none.

/** One write, at most: as many TLS records as one system call takes (see docs/adr/0006). */
export const BLOCK_BYTES = 128 * 1024
/** What one read brings, at most. */
export const CHUNK_BYTES = 64 * 1024
const KEPT = 4

class Pool {
  readonly #bytes: number
  readonly #free: Buffer[] = []

  constructor(bytes: number) {
    this.#bytes = bytes
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#bytes)
  }

  give(block: Buffer): void {
    if (this.#free.length < KEPT) this.#free.push(block)
  }
}

const blocks = new Pool(BLOCK_BYTES)
const chunks = new Pool(CHUNK_BYTES)

export const takeBlock = (): Buffer => blocks.take()
export const giveBlock = (block: Buffer): void => blocks.give(block)
export const takeChunk = (): Buffer => chunks.take()
export const giveChunk = (chunk: Buffer): void => chunks.give(chunk)

// A TCP socket as a ByteStream: of the application, or of a destination without a sidecar.
import type { Socket } from 'node:net'
import { BLOCK_BYTES, giveBlock, takeBlock } from '../tunnel/blocks.ts'
import { ByteQueue } from '../tunnel/byte-queue.ts'
import type { ByteStream, Sink } from '../tunnel/byte-stream.ts'
import { LentReads } from '../tunnel/lent-reads.ts'

/** From so many bytes on a chunk is bulk, which is gathered for a turn: one system call, and one wake-up of the reader. */
const BULK_BYTES = 4 * 1024

/** `socket` must be half-open (allowHalfOpen), and is not used otherwise any more. */
export class SocketStream implements ByteStream {
  readonly #socket: Socket
  readonly #reads: LentReads | undefined
  /** Gathered bulk, and what came behind it. */
  #block: Buffer | undefined
  #at = 0
  #scheduled = false
  #isDone = false
  #isClosed = false
  #sink: Sink | undefined
  #paused = false
  #ended: 'not' | 'read' | 'told' = 'not'
  /** Lent while we were paused: reading goes on for a moment. */
  readonly #held = new ByteQueue()

  /** `reads`: those that the socket was made with. */
  constructor(socket: Socket, reads = LentReads.of(socket)) {
    this.#socket = socket.on('error', () => {})
    this.#reads = reads
  }

  open(sink: Sink): void {
    const socket = this.#socket
    if (socket.closed) {
      process.nextTick(() => sink.closed('reset'))
      return
    }
    this.#sink = sink
    if (this.#reads) this.#reads.deliverTo(chunk => this.#lent(chunk))
    else socket.on('data', (chunk: Buffer) => sink.data(chunk))
    socket.once('end', () => {
      this.#ended = 'read'
      this.#deliverHeld()
    })
    socket.on('drain', () => sink.drain())
    socket.once('close', hadError => {
      this.#drop()
      const ended = !hadError && (this.#isDone || (socket.readableEnded && socket.writableFinished))
      this.#isClosed = true
      if (!ended) sink.closed('reset')
      else if (this.#ended === 'told') sink.closed('ended')
    })
    socket.resume()
  }

  pause(): void {
    this.#paused = true
    this.#socket.pause()
  }

  resume(): void {
    this.#paused = false
    this.#deliverHeld()
    if (!this.#paused) this.#socket.resume()
  }

  write(chunk: Buffer): boolean {
    if (this.#block || chunk.length >= BULK_BYTES) this.#gather(chunk)
    else this.#socket.write(Buffer.from(chunk))
    return !this.#socket.writableNeedDrain
  }

  end(): void {
    const socket = this.#socket
    this.#flush()
    // Where the other side has ended and the kernel has every byte, closing says all that a shutdown before it would.
    this.#isDone = this.#ended === 'told' && socket.writableLength === 0 && !socket.destroyed
    if (this.#isDone) socket.destroy()
    else socket.end()
  }

  reset(): void {
    this.#drop()
    this.#socket.resetAndDestroy()
  }

  #lent(chunk: Buffer): void {
    if (this.#paused || this.#held.length > 0) this.#held.push(chunk)
    else this.#sink?.data(this.#sink.borrows ? chunk : Buffer.from(chunk))
  }

  #deliverHeld(): void {
    while (!this.#paused) {
      const chunk = this.#held.shift()
      if (!chunk) break
      this.#sink?.data(chunk)
    }
    if (this.#paused || this.#ended !== 'read') return
    this.#ended = 'told'
    this.#sink?.end()
    if (this.#isClosed) this.#sink?.closed('ended')
  }

  #gather(chunk: Buffer): void {
    for (let from = 0; from < chunk.length; ) {
      this.#block ??= takeBlock()
      const copied = chunk.copy(this.#block, this.#at, from)
      from += copied
      this.#at += copied
      if (this.#at === BLOCK_BYTES) this.#flush()
    }
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(flush, this)
  }

  #flush(): void {
    const block = this.#block
    if (!block) return
    this.#socket.write(block.subarray(0, this.#at), () => giveBlock(block))
    this.#block = undefined
    this.#at = 0
  }

  #drop(): void {
    if (this.#block) giveBlock(this.#block)
    this.#block = undefined
    this.#at = 0
  }

  static onTurn(stream: SocketStream): void {
    stream.#scheduled = false
    stream.#flush()
  }
}

const flush = SocketStream.onTurn

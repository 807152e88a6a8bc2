// A TCP socket as a ByteStream: of the application, or of a destination without a sidecar.
import type { Socket } from 'node:net'
import { BLOCK_BYTES, giveBlock, takeBlock } from '../tunnel/blocks.ts'
import { ByteQueue } from '../tunnel/byte-queue.ts'
import type { ByteStream, Sink } from '../tunnel/byte-stream.ts'
import { LentReads } from '../tunnel/lent-reads.ts'
import { type Writer, writeTo } from '../tunnel/socket-write.ts'

/** From so many bytes on a chunk is bulk, which is gathered for a turn: one system call, and one wake-up of the reader. */
const BULK_BYTES = 4 * 1024

/** Where a small write is copied to; it is free again once the kernel has taken it, mostly at once. */
let small = Buffer.allocUnsafeSlow(BULK_BYTES)

/** `socket` must be half-open (allowHalfOpen), and is not used otherwise any more. */
export class SocketStream implements ByteStream, Writer {
  readonly socket: Socket
  readonly #reads: LentReads | undefined
  /** Gathered: bulk, what came behind it, and what comes while a write is in flight; full blocks wait before it. */
  #block: Buffer | undefined
  #at = 0
  #full: Buffer[] = []
  #scheduled = false
  /** The memory of the write that is in flight. */
  #writing: Buffer | undefined
  #isSlow = false
  #isEnding = false
  #isDone = false
  #isReset = false
  /** In order, before the end was told. */
  #isClosed = false
  #sink: Sink | undefined
  #paused = false
  #ended: 'not' | 'read' | 'told' = 'not'
  /** Lent while we were paused: reading goes on for a moment. */
  readonly #held = new ByteQueue()

  /** `reads`: those that the socket was made with. */
  constructor(socket: Socket, reads = LentReads.of(socket)) {
    this.socket = socket.on('error', () => {})
    this.#reads = reads
  }

  open(sink: Sink): void {
    const socket = this.socket
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
    socket.once('close', hadError => {
      this.#drop()
      const ended =
        !this.#isReset && !hadError && (this.#isDone || (socket.readableEnded && socket.writableFinished))
      if (!ended) this.#cutOff()
      else if (this.#ended === 'told') sink.closed('ended')
      else this.#isClosed = true
    })
    socket.resume()
  }

  pause(): void {
    this.#paused = true
    this.socket.pause()
  }

  resume(): void {
    if (this.#isReset) return
    this.#paused = false
    this.#deliverHeld()
    if (!this.#paused) this.socket.resume()
  }

  write(chunk: Buffer): boolean {
    if (this.#block || this.#writing || chunk.length >= BULK_BYTES) this.#gather(chunk)
    else this.#writeSmall(chunk)
    this.#isSlow = this.#writing !== undefined
    return !this.#isSlow
  }

  end(): void {
    this.#isEnding = true
    this.#flush()
    if (!this.#writing) this.#finish()
  }

  reset(): void {
    if (this.#isReset) return
    this.#isReset = true
    this.#drop()
    this.#held.clear()
    if (this.#isClosed && this.#ended === 'read') process.nextTick(() => this.#sink?.closed('reset'))
    else if (this.#isShuttingDown) this.#resetLater()
    else this.socket.resetAndDestroy()
  }

  onWritten(): void {
    if (this.#writing?.length === BLOCK_BYTES) giveBlock(this.#writing)
    this.#writing = undefined
    if (this.#isReset) return
    for (let block = this.#full.shift(); block; block = this.#full.shift()) {
      this.#write(block, block)
      if (this.#writing) return
    }
    this.#flush()
    if (this.#writing) return
    if (this.#isEnding) this.#finish()
    else if (this.#isSlow) {
      this.#isSlow = false
      this.#sink?.drain()
    }
  }

  /** libuv refuses to reset a socket in this state, and Node then never closes it. */
  get #isShuttingDown(): boolean {
    const socket = this.socket
    return (
      !socket.destroyed && socket.writableEnded && !socket.writableFinished && socket.writableLength === 0
    )
  }

  #cutOff(): void {
    this.#isReset = true
    this.#held.clear()
    this.#sink?.closed('reset')
  }

  #resetLater(): void {
    this.pause()
    this.socket.once('finish', () => this.socket.resetAndDestroy())
  }

  #lent(chunk: Buffer): void {
    // Where it was paused as it was opened, Node goes on reading.
    if (this.#paused) this.socket.pause()
    if (this.#paused || this.#held.length > 0) this.#held.push(chunk)
    else this.#sink?.data(this.#sink.borrows ? chunk : Buffer.from(chunk))
  }

  #deliverHeld(): void {
    while (!this.#paused) {
      const chunk = this.#held.shift()
      if (!chunk) break
      this.#sink?.data(chunk)
    }
    if (this.#paused || this.#isReset || this.#ended !== 'read') return
    this.#ended = 'told'
    this.#sink?.end()
    if (this.#isClosed) this.#sink?.closed('ended')
  }

  /** One copy: the chunk is lent, and the kernel may not take all of it at once. */
  #writeSmall(chunk: Buffer): void {
    chunk.copy(small)
    if (writeTo(this, small.subarray(0, chunk.length))) return
    this.#writing = small
    small = Buffer.allocUnsafeSlow(BULK_BYTES)
  }

  #gather(chunk: Buffer): void {
    for (let from = 0; from < chunk.length; ) {
      this.#block ??= takeBlock()
      const copied = chunk.copy(this.#block, this.#at, from)
      from += copied
      this.#at += copied
      if (this.#at === BLOCK_BYTES) this.#fullBlock(this.#block)
    }
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(flush, this)
  }

  #fullBlock(block: Buffer): void {
    if (!this.#writing) {
      this.#flush()
      return
    }
    this.#full.push(block)
    this.#block = undefined
    this.#at = 0
  }

  #flush(): void {
    const block = this.#block
    if (!block || this.#writing) return
    const written = block.subarray(0, this.#at)
    this.#block = undefined
    this.#at = 0
    this.#write(block, written)
  }

  #write(block: Buffer, written: Buffer): void {
    if (writeTo(this, written)) giveBlock(block)
    else this.#writing = block
  }

  #finish(): void {
    const socket = this.socket
    // Where the other side has ended and the kernel has every byte, closing says all that a shutdown before it would.
    this.#isDone = this.#ended === 'told' && !socket.destroyed
    if (this.#isDone) socket.destroy()
    else socket.end()
  }

  #drop(): void {
    if (this.#block) giveBlock(this.#block)
    this.#block = undefined
    this.#at = 0
    this.#full = []
  }

  static onTurn(stream: SocketStream): void {
    stream.#scheduled = false
    stream.#flush()
  }
}

const flush = SocketStream.onTurn

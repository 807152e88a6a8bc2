// What a session writes, gathered into one contiguous buffer: one TLS write, and mostly one system call, for all that a
// turn of the event loop has brought. The first of a quiet time is written at the end of the current callback; once
// writes meet, they wait for the turn's end. One write is in flight at a time, and what comes meanwhile is the next.
import type { Duplex } from 'node:stream'
import { FRAME_HEADER_BYTES, writeDataHeader } from '../http2/frames.ts'
import { type SocketWriter, writeToSocket } from '../tcp/write.ts'
import { BLOCK_BYTES, giveBlock, takeBlock } from './blocks.ts'

export type OutputSource = {
  /** Writes frames of waiting streams into `block` from `at` on, at most up to its end. Returns the offset behind. */
  fill(block: Buffer, at: number): number
  /** What was filled is on its way. */
  onFilled(): void
}

export class Output implements SocketWriter {
  readonly socket: Duplex
  readonly #source: OutputSource
  /** What is gathered: `#at` bytes, and control frames for which there is no more room. */
  #block: Buffer | undefined
  #at = 0
  #waiting: Buffer[] = []
  #waitingBytes = 0
  #scheduled = false
  #writing: Buffer | undefined
  #busy = false
  #ending = false
  #requests = 0

  constructor(socket: Duplex, source: OutputSource) {
    this.socket = socket
    this.#source = source
  }

  /** Bytes of control frames that do not fit into the next write. */
  get waitingBytes(): number {
    return this.#waitingBytes
  }

  /** How large a DATA frame's payload may be now. */
  get room(): number {
    return this.#waiting.length > 0 ? 0 : BLOCK_BYTES - this.#at - FRAME_HEADER_BYTES
  }

  control(frame: Buffer): void {
    if (this.#waiting.length > 0 || frame.length > BLOCK_BYTES - this.#at) {
      this.#waiting.push(frame)
      this.#waitingBytes += frame.length
    } else this.#at += frame.copy(this.#open(), this.#at)
    this.wake()
  }

  /** A DATA frame of no more than `room`. */
  data(streamId: number, from: Buffer, start: number, end: number): void {
    const block = this.#open()
    const at = writeDataHeader(block, this.#at, streamId, end - start, false)
    this.#at = at + from.copy(block, at, start, end)
    this.wake()
  }

  /** Something is to be written. */
  wake(): void {
    this.#requests += 1
    if (this.#scheduled || this.#writing) return
    this.#scheduled = true
    if (this.#busy) setImmediate(flush, this)
    else process.nextTick(flush, this)
  }

  /** Writes now, if no write is in flight: there is more to come than fits. */
  flush(): void {
    if (!this.#writing && this.#at > 0) this.#flush()
  }

  /** Ends the connection after what is to be written. */
  end(): void {
    this.#ending = true
    this.wake()
  }

  onWritten(): void {
    if (this.#writing) giveBlock(this.#writing)
    this.#writing = undefined
    if (!this.#scheduled) this.#flush()
  }

  onFailed(error: Error): void {
    this.socket.destroy(error)
  }

  #open(): Buffer {
    this.#block ??= takeBlock()
    return this.#block
  }

  #flush(): void {
    if (this.#writing || this.socket.destroyed || this.socket.writableEnded) return
    const block = this.#open()
    this.#takeWaiting(block)
    if (this.#waiting.length === 0) this.#at = this.#source.fill(block, this.#at)
    if (this.#at > 0) this.#write(block)
    else this.#rest(block)
  }

  #rest(block: Buffer): void {
    this.#block = undefined
    giveBlock(block)
    if (this.#ending) this.socket.end()
  }

  #write(block: Buffer): void {
    const written = block.subarray(0, this.#at)
    this.#block = undefined
    this.#at = 0
    this.#busy = this.#requests > 1
    this.#requests = 0
    this.#writing = block
    if (writeToSocket(this, written)) process.nextTick(() => this.onWritten())
    this.#source.onFilled()
  }

  #takeWaiting(block: Buffer): void {
    let taken = 0
    for (const frame of this.#waiting) {
      if (frame.length > BLOCK_BYTES - this.#at) break
      this.#at += frame.copy(block, this.#at)
      this.#waitingBytes -= frame.length
      taken += 1
    }
    if (taken > 0) this.#waiting = this.#waiting.slice(taken)
  }

  static onTurn(output: Output): void {
    output.#scheduled = false
    output.#flush()
  }
}

const flush = Output.onTurn

// What a session writes, gathered into one contiguous buffer: one TLS write, and mostly one system call, for all that a
// turn of the event loop has brought. The first of a quiet time is written at the end of the current callback; once
// writes meet, they wait for the turn's end. One write is in flight at a time, and what comes meanwhile is the next.
import type { Duplex } from 'node:stream'
import { BLOCK_BYTES, giveBlock, takeBlock } from './blocks.ts'

export type OutputSource = {
  /** Writes frames of streams into `block` from `at` on, at most up to its end. Returns the offset behind. */
  fill(block: Buffer, at: number): number
  /** What was filled is on its way. */
  onFilled(): void
}

export class Output {
  readonly #socket: Duplex
  readonly #source: OutputSource
  #control: Buffer[] = []
  #controlBytes = 0
  #scheduled = false
  #writing = false
  #busy = false
  #ending = false
  #requests = 0

  /** `socket` must have copied what it was given when it calls back: TLS has encrypted it. */
  constructor(socket: Duplex, source: OutputSource) {
    this.#socket = socket
    this.#source = source
  }

  /** Bytes of frames that are written before any of a stream's. */
  get controlBytes(): number {
    return this.#controlBytes
  }

  control(frame: Buffer): void {
    this.#control.push(frame)
    this.#controlBytes += frame.length
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

  /** Ends the connection after what is to be written. */
  end(): void {
    this.#ending = true
    this.wake()
  }

  #flush(): void {
    this.#scheduled = false
    if (this.#writing || this.#socket.destroyed || this.#socket.writableEnded) return
    const block = takeBlock()
    const end = this.#source.fill(block, this.#takeControl(block))
    if (end > 0) {
      this.#busy = this.#requests > 1
      this.#requests = 0
      this.#write(block, end)
    } else {
      giveBlock(block)
      if (this.#ending) this.#socket.end()
    }
  }

  #write(block: Buffer, end: number): void {
    this.#writing = true
    this.#socket.write(block.subarray(0, end), () => {
      this.#writing = false
      giveBlock(block)
      if (!this.#scheduled) this.#flush()
    })
    this.#source.onFilled()
  }

  #takeControl(block: Buffer): number {
    let at = 0
    let taken = 0
    for (const frame of this.#control) {
      if (at + frame.length > BLOCK_BYTES) break
      at += frame.copy(block, at)
      taken += 1
    }
    this.#control = taken === this.#control.length ? [] : this.#control.slice(taken)
    this.#controlBytes -= at
    return at
  }

  static flush(output: Output): void {
    output.#flush()
  }
}

const { flush } = Output

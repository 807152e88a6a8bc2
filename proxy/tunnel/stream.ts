// One CONNECT stream with a TCP connection's manners (RFC 9113, section 8.5): END_STREAM is FIN, RST_STREAM is RST.
// What arrives is credited to the peer when its reader has taken it, so that a reader that stalls holds its sender back.
import { ErrorCode } from '../http2/errors.ts'
import { writeDataHeader } from '../http2/frames.ts'
import { ByteQueue } from './byte-queue.ts'
import type { ByteStream, Sink } from './byte-stream.ts'
import { ReceiveWindow, SendWindow } from './flow-control.ts'
import { type Flow, Turn } from './scheduler.ts'

/** What a stream needs of its session. */
export type StreamOwner = {
  /** Unsent bytes of one stream at which its writer is held back. */
  readonly unsentMark: number
  /** Whether what arrives is only lent. */
  readonly lends: boolean
  /** Sends of `chunk` what can be sent at once. Returns how much. */
  send(stream: TunnelStream, chunk: Buffer): number
  /** `stream` has `bytes` more to send, or an end. */
  queued(stream: TunnelStream, bytes: number): void
  /** It holds `bytes` less; `due` bytes are to be granted to its peer anew. */
  consumed(stream: TunnelStream, bytes: number, due: number): void
  /** Unsent bytes were thrown away. */
  dropped(bytes: number): void
  sendReset(stream: TunnelStream, code: ErrorCode): void
  /** It is over: `closed` is, or will be, told to its reader. */
  over(stream: TunnelStream): void
}

export class TunnelStream implements ByteStream, Flow {
  readonly id: number
  readonly turn = new Turn()
  readonly receiveWindow: ReceiveWindow
  readonly sendWindow: SendWindow
  /** When its peer was last granted more. */
  creditedAt: number
  /** Since when its reader does not read, if it does not. */
  pausedAt: number
  /** Since when nothing of what waits has been sent, if something does. */
  waitingSince: number
  readonly #owner: StreamOwner
  readonly #outbound = new ByteQueue()
  readonly #inbound = new ByteQueue()
  #local: 'open' | 'ending' | 'ended' = 'open'
  #remote: 'open' | 'ended' | 'delivered' = 'open'
  #over: 'ended' | 'reset' | undefined
  #sink: Sink | undefined
  #flowing = false
  #paused = false
  #held = 0
  #full = false

  constructor(id: number, owner: StreamOwner, windows: { send: number; receive: number }, now: number) {
    this.id = id
    this.#owner = owner
    this.sendWindow = new SendWindow(windows.send)
    this.receiveWindow = new ReceiveWindow(windows.receive)
    this.creditedAt = now
    this.pausedAt = now
    this.waitingSince = now
  }

  open(sink: Sink): void {
    this.#sink = sink
    process.nextTick(() => {
      if (this.#over) return sink.closed(this.#over)
      this.#flowing = true
      this.#deliver()
    })
  }

  pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.pausedAt = performance.now()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    const held = this.#held
    this.#held = 0
    this.#consume(held)
    this.#deliver()
  }

  write(chunk: Buffer): boolean {
    if (this.#over || this.#local !== 'open') return true
    const sent = this.#outbound.length === 0 ? this.#owner.send(this, chunk) : 0
    if (sent === chunk.length) return true
    const rest = chunk.subarray(sent)
    if (this.#outbound.length === 0) this.waitingSince = performance.now()
    this.#outbound.push(rest)
    this.#owner.queued(this, rest.length)
    // Once full it stays so until `drain` is told.
    this.#full ||= this.#outbound.length > this.#owner.unsentMark
    return !this.#full
  }

  end(): void {
    if (this.#over || this.#local !== 'open') return
    this.#local = 'ending'
    this.#owner.queued(this, 0)
  }

  reset(code: ErrorCode = ErrorCode.CONNECT_ERROR): void {
    if (this.#over) return
    this.#cut()
    this.#owner.sendReset(this, code)
    process.nextTick(() => this.#closed('reset'))
  }

  /** By the peer, or with the connection. */
  cutOff(): void {
    if (this.#over) return
    this.#cut()
    this.#closed('reset')
  }

  /** Both directions have ended on the wire; what has arrived may still be undelivered. */
  get isEnded(): boolean {
    return this.#local === 'ended' && this.#remote !== 'open'
  }

  get isOver(): boolean {
    return this.#over !== undefined
  }

  get remoteEnded(): boolean {
    return this.#remote !== 'open'
  }

  get unsent(): number {
    return this.#outbound.length
  }

  get sendable(): boolean {
    if (this.#over) return false
    return this.#outbound.length > 0 ? this.sendWindow.available > 0 : this.#local === 'ending'
  }

  /** Writes a DATA frame with at most `most` bytes of payload. Returns the offset behind. */
  writeFrame(block: Buffer, at: number, most: number): number {
    const bytes = Math.min(most, this.#outbound.length, Math.max(0, this.sendWindow.available))
    const ends = this.#local === 'ending' && bytes === this.#outbound.length
    this.sendWindow.take(bytes)
    if (ends) this.#local = 'ended'
    return this.#outbound.moveTo(block, writeDataHeader(block, at, this.id, bytes, ends), bytes)
  }

  /** A frame of it was written: the writer may go on. Not to be called while frames are being written. */
  onWritten(): void {
    if (this.#outbound.length > 0) this.waitingSince = performance.now()
    if (this.#full && this.#outbound.length <= this.#owner.unsentMark / 2) {
      this.#full = false
      this.#sink?.drain()
    }
    this.#settle()
  }

  /** False: the peer sent more than it was granted. */
  receive(piece: Buffer, flowControlled: number, endStream: boolean): boolean {
    if (!this.receiveWindow.receive(flowControlled)) return false
    if (endStream) this.#remote = 'ended'
    if (flowControlled > piece.length) this.#consume(flowControlled - piece.length)
    if (!this.#flowing || this.#paused || this.#inbound.length > 0) this.#inbound.push(piece)
    else this.#hand(this.#owner.lends && !this.#sink?.borrows ? Buffer.from(piece) : piece)
    this.#deliver()
    return true
  }

  #deliver(): void {
    while (this.#flowing && !this.#paused) {
      const chunk = this.#inbound.shift()
      if (!chunk) break
      this.#hand(chunk)
    }
    if (this.#remote !== 'ended' || this.#inbound.length > 0) return
    if (!this.#flowing || this.#paused || this.#over) return
    this.#remote = 'delivered'
    this.#sink?.end()
    this.#settle()
  }

  #hand(chunk: Buffer): void {
    if (chunk.length === 0) return
    this.#sink?.data(chunk)
    // A reader that paused has not taken it before it goes on.
    if (this.#paused && !this.#over) this.#held += chunk.length
    else this.#consume(chunk.length)
  }

  #consume(bytes: number): void {
    if (bytes > 0) this.#owner.consumed(this, bytes, this.receiveWindow.consume(bytes))
  }

  #settle(): void {
    if (this.#over || this.#local !== 'ended' || this.#remote !== 'delivered') return
    this.#over = 'ended'
    this.#owner.over(this)
    this.#closed('ended')
  }

  #cut(): void {
    this.#over = 'reset'
    this.#owner.dropped(this.#outbound.clear())
    const held = this.#held + this.#inbound.clear()
    this.#held = 0
    this.#consume(held)
    this.#owner.over(this)
  }

  #closed(how: 'ended' | 'reset'): void {
    // Without a reader yet, `open` says it.
    if (this.#flowing) this.#sink?.closed(how)
  }
}

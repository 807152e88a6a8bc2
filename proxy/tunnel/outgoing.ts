// The DATA that a session writes: whose is next, and how much of it the peer, the block and its share allow.
import { ErrorCode, Http2Error } from '../http2/errors.ts'
import { FRAME_HEADER_BYTES, INITIAL } from '../http2/frames.ts'
import type { Limit } from './abuse.ts'
import { SendWindow } from './flow-control.ts'
import type { Held } from './held.ts'
import type { Output } from './output.ts'
import { Scheduler } from './scheduler.ts'
import { SEND } from './settings.ts'
import type { TunnelStream } from './stream.ts'

/** A DATA frame begins only where so much fits. */
const LEAST_ROOM = 1024

export type OutgoingOptions = {
  /** Shared with other sessions. */
  readonly held: Held
  onLimit(limit: Limit): void
  /** A frame of it was written; its last one perhaps. */
  onWritten(stream: TunnelStream): void
}

export class Outgoing {
  /** The peer's SETTINGS_MAX_FRAME_SIZE. */
  maxFrameSize: number = INITIAL.maxFrameSize
  readonly #output: Output
  readonly #options: OutgoingOptions
  readonly #scheduler = new Scheduler<TunnelStream>()
  readonly #window = new SendWindow(INITIAL.window)
  #written: TunnelStream[] = []
  #unsent = 0

  constructor(output: Output, options: OutgoingOptions) {
    this.#output = output
    this.#options = options
  }

  /** Unsent bytes of one stream at which its writer is held back. */
  get unsentMark(): number {
    return this.#unsent > SEND.unsent || this.#options.held.isTight ? 0 : SEND.unsentPerStream
  }

  /** Sends of `chunk` what fits into the next write, if nobody waits for room there. Returns how much. */
  send(stream: TunnelStream, chunk: Buffer): number {
    if (!this.#scheduler.isEmpty) return 0
    const output = this.#output
    const most = Math.min(chunk.length, this.#window.available, stream.sendWindow.available)
    let sent = 0
    while (sent < most) {
      if (output.room < LEAST_ROOM) output.flush()
      const bytes = Math.min(most - sent, output.room, this.maxFrameSize)
      if (output.room < LEAST_ROOM) break
      output.data(stream.id, chunk, sent, sent + bytes)
      sent += bytes
    }
    this.#window.take(sent)
    stream.sendWindow.take(sent)
    return sent
  }

  /** The stream may have become sendable, by `bytes` more or by its window. */
  queued(stream: TunnelStream, bytes: number): void {
    const before = this.#unsent
    this.#unsent += bytes
    this.#options.held.bytes += bytes
    if (before <= SEND.unsent && this.#unsent > SEND.unsent) this.#options.onLimit('tunnel_unsent')
    this.#options.held.check()
    this.#scheduler.add(stream)
    if (stream.turn.queued) this.#output.wake()
  }

  /** It waits no more: sent or thrown away. */
  dropped(bytes: number): void {
    this.#unsent -= bytes
    this.#options.held.bytes -= bytes
  }

  /** WINDOW_UPDATE of the connection. */
  grant(increment: number): void {
    if (!this.#window.add(increment))
      throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, 'the connection’s window overflows')
    this.#output.wake()
  }

  /** Frames from `from` on. Returns the offset behind. */
  fill(block: Buffer, from: number): number {
    let at = from
    this.#scheduler.serve(block.length - from, (stream, most) => {
      const room = block.length - at - FRAME_HEADER_BYTES
      const bytes = Math.min(most, room, this.maxFrameSize, Math.max(0, this.#window.available))
      if (room < LEAST_ROOM || (stream.unsent > 0 && bytes === 0)) return 0
      const end = stream.writeFrame(block, at, bytes)
      const sent = end - at
      this.#window.take(sent - FRAME_HEADER_BYTES)
      this.dropped(sent - FRAME_HEADER_BYTES)
      if (this.#written.at(-1) !== stream) this.#written.push(stream)
      at = end
      return sent
    })
    return at
  }

  /** What was filled is on its way: writers go on, which may write anew at once. */
  onFilled(): void {
    const written = this.#written
    if (written.length === 0) return
    this.#written = []
    for (const stream of written) this.#options.onWritten(stream)
  }
}

// What a session lets its peer send: the connection's window, and how the windows of streams grow. No stream is granted
// what the connection's window does not hold, so that streams which stall keep nothing from the others.
import { ErrorCode, Http2Error } from '../http2/errors.ts'
import { windowUpdateFrame } from '../http2/frames.ts'
import { type Allowance, ReceiveWindow } from './flow-control.ts'
import type { Held } from './held.ts'
import type { Output } from './output.ts'
import { RECEIVE } from './settings.ts'
import type { TunnelStream } from './stream.ts'

/** Every stream's first window, all that they may grow by, and what has been read but is not returned yet. */
export const connectionWindow = (maxStreams: number): number =>
  maxStreams * RECEIVE.streamWindow + RECEIVE.growth + RECEIVE.connectionStep

/** A stream that uses up half of its window within so many round trips would be faster with a larger one. */
const QUICK_ROUND_TRIPS = 4

export class Incoming {
  /** An estimate, milliseconds. */
  roundTrip = 1
  readonly #output: Output
  readonly #growth: Allowance
  readonly #held: Held
  readonly #window: ReceiveWindow

  /** `growth` and `held` are shared with other sessions. */
  constructor(output: Output, maxStreams: number, growth: Allowance, held: Held) {
    this.#output = output
    this.#growth = growth
    this.#held = held
    this.#window = new ReceiveWindow(connectionWindow(maxStreams), RECEIVE.connectionStep)
  }

  receive(bytes: number): void {
    if (!this.#window.receive(bytes))
      throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, 'more than the connection’s window')
    this.#held.bytes += bytes
  }

  /** Bytes were thrown away, or a reader has taken them. */
  consume(bytes: number): void {
    this.#held.bytes -= bytes
    const due = this.#window.consume(bytes)
    if (due > 0) this.#output.control(windowUpdateFrame(0, due))
  }

  /** Grants the peer of `stream` `due` bytes anew, and more if it is quick. */
  grant(stream: TunnelStream, due: number): void {
    const now = performance.now()
    const quick = now - stream.creditedAt < QUICK_ROUND_TRIPS * this.roundTrip && !this.#held.isTight
    stream.creditedAt = now
    const { receiveWindow } = stream
    const wanted = quick ? Math.min(receiveWindow.limit, RECEIVE.mostStreamWindow - receiveWindow.limit) : 0
    const more = receiveWindow.grow(this.#growth.take(wanted))
    this.#output.control(windowUpdateFrame(stream.id, due + more))
  }

  /** What its window has grown by may be lent to others. */
  release({ receiveWindow }: TunnelStream): void {
    this.#growth.give(receiveWindow.limit - RECEIVE.streamWindow)
  }
}

// What a sidecar holds for whoever does not read, of all connections and both ends in sum: limits of streams and connections
// alone multiply beyond any memory. From a first mark on nothing more is taken in than must be; beyond a second one, which
// only what had been granted before can reach, the streams that hold most for longest are reset: better some than all.
import { ChurnSet } from '../../shared/churn.ts'
import { ErrorCode } from '../http2/errors.ts'
import { inFlight } from '../tcp/write.ts'
import { HELD } from './settings.ts'
import type { TunnelStream } from './stream.ts'

export type HeldMarks = { readonly tight: number; readonly most: number }

export class Held {
  /** What streams cost themselves, what came and was not taken, and what was written and is not sent. */
  bytes = 0
  readonly #onLimit: (limit: 'tunnel_held') => void
  readonly #marks: HeldMarks
  readonly #streams = new ChurnSet<TunnelStream>()
  #isRelieving = false

  constructor(onLimit: (limit: 'tunnel_held') => void = () => {}, marks: HeldMarks = HELD) {
    this.#onLimit = onLimit
    this.#marks = marks
  }

  /** No new streams, no larger windows, and no more than one chunk of a writer. */
  get isTight(): boolean {
    return this.#sum > this.#marks.tight
  }

  opened(stream: TunnelStream): void {
    this.#streams.add(stream)
    this.bytes += HELD.stream
  }

  /** Idempotent. */
  left(stream: TunnelStream): void {
    if (this.#streams.delete(stream)) this.bytes -= HELD.stream
  }

  /** To be called when more may be held. Nothing is reset during the call. */
  check(): void {
    if (this.#sum <= this.#marks.most || this.#isRelieving) return
    this.#isRelieving = true
    setImmediate(() => {
      this.#isRelieving = false
      this.#relieve(performance.now())
    })
  }

  get #sum(): number {
    return this.bytes + inFlight.bytes
  }

  #relieve(now: number): void {
    if (this.#sum <= this.#marks.most) return
    const stalled = [...this.#streams]
      .map(stream => ({ stream, weight: weightOf(stream, now) }))
      .filter(({ weight }) => weight > 0)
      .sort((one, other) => other.weight - one.weight)
    for (const { stream } of stalled) {
      if (!this.isTight) return
      this.#onLimit('tunnel_held')
      stream.reset(ErrorCode.ENHANCE_YOUR_CALM)
    }
  }
}

/** Bytes, by how long nobody has taken any of them. */
const weightOf = ({ receiveWindow, unsent, pausedAt, waitingSince }: TunnelStream, now: number): number =>
  receiveWindow.held * (now - pausedAt) + unsent * (now - waitingSince)

// HTTP/2's flow control (RFC 9113, section 5.2) as numbers. What a peer may make us hold is bounded by what we grant: each
// stream begins with a small window and may borrow a larger one while it uses it up, from a sum that all share. The
// connection's window holds all of these together, so that no number of stalled streams can use it up for the others.
import { MAX_WINDOW } from '../http2/frames.ts'

/** What the peer lets us send, on a stream or on the connection. Negative after smaller SETTINGS (section 6.9.2). */
export class SendWindow {
  #available: number

  constructor(available: number) {
    this.#available = available
  }

  get available(): number {
    return this.#available
  }

  take(bytes: number): void {
    this.#available -= bytes
  }

  /** False: beyond 2^31-1, which is the peer's FLOW_CONTROL_ERROR. */
  add(bytes: number): boolean {
    this.#available += bytes
    return this.#available <= MAX_WINDOW
  }
}

/** What we let the peer send: what it has been granted and what we hold of it never exceed `limit` in sum. */
export class ReceiveWindow {
  #limit: number
  #granted: number
  #held = 0
  readonly #step: number | undefined

  /** Credit is returned from `step` bytes on, else from half of the limit on. */
  constructor(limit: number, step?: number) {
    this.#limit = limit
    this.#granted = limit
    this.#step = step
  }

  get limit(): number {
    return this.#limit
  }

  /** What has come and was not consumed. */
  get held(): number {
    return this.#held
  }

  /** False: the peer sent more than it was granted. */
  receive(bytes: number): boolean {
    this.#granted -= bytes
    this.#held += bytes
    return this.#granted >= 0
  }

  /** What was held is gone: how much is to be granted anew, or 0 if that is not worth a frame yet. */
  consume(bytes: number): number {
    this.#held -= bytes
    const due = this.#limit - this.#granted - this.#held
    if (due < (this.#step ?? this.#limit / 2)) return 0
    this.#granted += due
    return due
  }

  /** Raises the limit. What is due by it is to be granted at once. */
  grow(bytes: number): number {
    this.#limit += bytes
    this.#granted += bytes
    return bytes
  }
}

/** A sum to borrow from. */
export class Allowance {
  #left: number

  constructor(bytes: number) {
    this.#left = bytes
  }

  /** At most `bytes`: what is left of them. */
  take(bytes: number): number {
    const taken = Math.min(bytes, this.#left)
    this.#left -= taken
    return taken
  }

  give(bytes: number): void {
    this.#left += bytes
  }
}

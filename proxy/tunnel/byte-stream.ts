// A byte stream with TCP's manners, whatever carries it: a socket, or a stream of the tunnel. Callbacks, set once, instead
// of node:stream: its layers (queues, ticks, events) cost more for each chunk than all that the proxy does with it.

export type ByteStream = {
  /** Begins delivery; called at most once. What came before is delivered after this call, never during it. */
  open(sink: Sink): void
  /** Nothing is delivered until `resume` (except `closed`), and the sender is held back. */
  pause(): void
  resume(): void
  /**
   * Takes the bytes, and does not keep `chunk`: it may be overwritten after the call. False: the other side is slow, and
   * `sink.drain` says when it is not; nothing is lost.
   */
  write(chunk: Buffer): boolean
  /** The orderly end of our direction (FIN, END_STREAM), after what was written. */
  end(): void
  /** The end that is none (RST, RST_STREAM): both directions, at once. Idempotent; `closed` is called, but not during it. */
  reset(): void
}

export type Sink = {
  /** Chunks are only lent to it, for the time of the call; otherwise they are its to keep, and may have to be copied. */
  readonly borrows?: boolean
  data(chunk: Buffer): void
  /** The other side's orderly end. */
  end(): void
  drain(): void
  /** Last, exactly once: both directions ended in order, or it was cut off (by either side). */
  closed(how: 'ended' | 'reset'): void
}

// What the gate reads at most; docs/http.md lists it.

export const LIMITS = {
  requestLineBytes: 8 * 1024,
  headBytes: 32 * 1024,
  answerHeadBytes: 64 * 1024,
  fields: 100,
  trailerBytes: 8 * 1024,
  /** Of all chunks of one body, without the data: sizes, extensions. A chunk of one byte costs six. */
  chunkLineBytes: 256,
  extensionBytes: 4 * 1024,
  /** Requests that are forwarded and not answered. */
  inFlight: 32,
  /** A body of a refused request that is read and thrown away, so that the connection can be kept. */
  discardedBytes: 64 * 1024,
} as const

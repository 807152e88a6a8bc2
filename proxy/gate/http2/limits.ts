// What the HTTP/2 gate takes at most; docs/http.md lists it.

export const LIMITS = {
  /** Of one caller's connection; more are refused in a way that clients repeat by themselves. */
  concurrentStreams: 2_000,
  /** Streams that ended before the caller did, and of which it is known that more may come. */
  leftStreams: 1_000,
  fields: 100,
  /** As in a request line of HTTP/1.1: a path is kept while its request lives. */
  pathBytes: 8 * 1024,
  /** Header lists as RFC 9113, section 6.5.2, counts them: names, values and 32 bytes for each field. */
  requestListBytes: 32 * 1024,
  answerListBytes: 64 * 1024,
  /** A frame is passed on in pieces, but what is not DATA is held until it is whole. */
  frameBytes: 64 * 1024,
  /** SETTINGS that the other side has not acknowledged. */
  unacknowledgedSettings: 16,
  /** Held for a caller while the application has not said its first word. */
  heldBytes: 64 * 1024,
  /** Streams that a caller has cut off, or has made us cut off (CVE-2023-44487). */
  resets: { burst: 10_000, perSecond: 1_000 },
  /** Frames that carry nothing: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones. */
  controlFrames: { burst: 10_000, perSecond: 1_000 },
} as const

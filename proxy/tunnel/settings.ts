// The numbers of the tunnel, both ends.
import type { Rate } from './abuse.ts'

const KIB = 1024
const MIB = 1024 * KIB

export const SERVER_LIMITS = {
  /** Connections of peers, and among them those whose handshake is not done; then one address's share of each. */
  maxConnections: 4096,
  maxHandshakes: 256,
  maxConnectionsPerAddress: 512,
  maxHandshakesPerAddress: 64,
  handshakeTimeoutMs: 5_000,
  /** Streams of one connection at a time; a dialer that needs more opens another connection. */
  maxConcurrentStreams: 1024,
} as const

export const DIALER_LIMITS = {
  /** Further streams to the same peer spill to further connections. */
  streamsPerConnection: 256,
  /** TCP and TLS together. */
  connectTimeoutMs: 5_000,
  /** The peer answers a CONNECT when its application has accepted. */
  answerTimeoutMs: 15_000,
  idleMs: 60_000,
} as const

/** Bytes that a peer may have in flight to us, and we hold for readers that stall. */
export const RECEIVE = {
  /** Of a stream from the beginning; 1,024 stalled ones hold 64 MiB. */
  streamWindow: 64 * KIB,
  /** Of one that uses its window up, by what is borrowed of the growth that all connections of a listener share. */
  mostStreamWindow: 2 * MIB,
  growth: 32 * MIB,
  /** The connection's credit is returned by so much. */
  connectionStep: MIB,
  /** No more than a stream's window. DATA is passed on in pieces as it comes, whatever its frame's size. */
  maxFrameSize: 64 * KIB,
  maxHeaderListSize: 16 * KIB,
} as const

/** Bytes that our applications have written and the peer does not take. */
export const SEND = {
  /** Of a stream: beyond it, its application is not read from. */
  unsentPerStream: 32 * KIB,
  /** Of a session: beyond it, a stream is not read from while it has any. */
  unsent: 8 * MIB,
  /** Of frames that answer the peer's own (PING, SETTINGS, RST_STREAM): beyond it, it does not read. */
  answers: 256 * KIB,
} as const

/** Of a sidecar: what all its streams cost and hold for whoever does not read, of the 256 MiB that it may have. */
export const HELD = {
  /** Of a stream, whatever it holds. */
  stream: 6 * KIB,
  /** New streams are refused, and what is held grows by nothing that was not granted before. */
  tight: 96 * MIB,
  /** Streams are reset. */
  most: 128 * MIB,
} as const

/** Legacy applications reset connections as a matter of course: 10,000 at once, 1,000 a second. */
export const RATES = {
  tunnel_resets: { burst: 10_000, perSecond: 1_000 },
  tunnel_pings: { burst: 100, perSecond: 10 },
  tunnel_settings: { burst: 100, perSecond: 10 },
  tunnel_empty_frames: { burst: 1_000, perSecond: 100 },
  tunnel_useless_frames: { burst: 1_000, perSecond: 100 },
} as const satisfies Record<string, Rate>

/** Silence is noticed after one to two of these, and believed after one more: 13.5 s at most. */
export const LIVENESS_INTERVAL_MS = 4_500
/** For the peer to acknowledge our SETTINGS. */
export const SETTINGS_TIMEOUT_MS = 10_000
/** Between the notice of a graceful end and its last word, if the peer does not answer a PING (RFC 9113, section 6.8). */
export const NOTICE_MS = 1_000
/** How long a peer gets to end a connection whose last word it has read, or should have: one that was ended with a reason. */
export const LINGER_MS = 1_000
/** How long it may take to read the last bytes of a connection that ends in order, as long as a silent one is believed. */
export const UNREAD_MS = 3 * LIVENESS_INTERVAL_MS

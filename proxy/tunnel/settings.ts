// The numbers of the tunnel's HTTP/2, both ends. node:http2's defaults are those of a web server: they kill healthy
// tunnels under a burst of resets or stalled readers, and let a tunnel carry 64 KiB a round trip.
import { constants, type Http2Session, type Settings } from 'node:http2'
import type { Socket } from 'node:net'

/** Bytes in flight of one stream; what a stalled application may make us hold. */
const STREAM_WINDOW = 1024 * 1024
/** Bytes in flight of one connection: many streams at their full rate, bounded in sum. */
const CONNECTION_WINDOW = 16 * 1024 * 1024

export const SESSION_SETTINGS: Settings = {
  initialWindowSize: STREAM_WINDOW,
  maxHeaderListSize: 16 * 1024,
  headerTableSize: 4096,
  enablePush: false,
}

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

export const SERVER_SESSION_OPTIONS = {
  settings: { ...SESSION_SETTINGS, maxConcurrentStreams: SERVER_LIMITS.maxConcurrentStreams },
  /** MiB; counts what is queued towards stalled readers, for which new streams would be refused. */
  maxSessionMemory: 256,
  /** Legacy applications reset connections as a matter of course: 10,000 at once, 1,000 a second. */
  streamResetBurst: 10_000,
  streamResetRate: 1_000,
  maxHeaderListPairs: 64,
} as const

export const CLIENT_SESSION_OPTIONS = {
  settings: SESSION_SETTINGS,
  maxSessionMemory: 256,
  maxHeaderListPairs: 64,
} as const

/** A peer that is silent for two of these is dead: 14 s at most. */
export const LIVENESS_INTERVAL_MS = 7_000

export const widen = (session: Http2Session): void => session.setLocalWindowSize(CONNECTION_WINDOW)

/**
 * Calls `onDead` once if neither a byte nor the answer to a PING arrives for an interval. A session that was ended in
 * order can ping no more, but its socket waits for the peer's end: that, too, only for as long.
 */
export function watchLiveness(
  session: Http2Session,
  socket: Socket,
  intervalMs: number,
  onDead: () => void,
): void {
  let received = socket.bytesRead
  let waiting = false
  const timer = setInterval(() => {
    const silent = socket.bytesRead === received
    received = socket.bytesRead
    if (!silent) waiting = false
    else if (waiting) {
      clearInterval(timer)
      onDead()
      socket.destroy()
    } else waiting = session.destroyed || session.ping(() => {})
  }, intervalMs).unref()
  session.once('close', () => clearInterval(timer))
}

/** The code of a GOAWAY whose opaque data say why (see docs/errors.md). */
export const GOAWAY_REFUSED = constants.NGHTTP2_INADEQUATE_SECURITY

// One identified peer's HTTP/2 session, server side: each CONNECT becomes a TunnelRequest, everything else is refused.
import {
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../../shared/clock.ts'
import { type Code, PosternError } from '../../shared/errors.ts'
import type { Peer, TunnelRequest } from './interface.ts'
import { GOAWAY_REFUSED, LIVENESS_INTERVAL_MS, watchLiveness, widen } from './settings.ts'
import { asByteStream } from './stream.ts'

export type SessionOptions = {
  readonly clock: Clock
  /** A peer that is silent for two of these is dead. */
  readonly livenessMs?: number
  onRequest(request: TunnelRequest): void
  onRefused(error: PosternError, peerAddress: string | undefined): void
}

/** Headers of HBONE that travel with a connection. */
const KEPT_HEADERS = ['traceparent', 'tracestate', 'baggage', 'forwarded'] as const
/** How long a refused peer gets to read why. */
const REFUSAL_LINGER_MS = 1_000

export function serve(
  session: ServerHttp2Session,
  socket: TLSSocket,
  peer: Peer,
  { clock, livenessMs = LIVENESS_INTERVAL_MS, onRequest, onRefused }: SessionOptions,
): void {
  widen(session)
  watchLiveness(session, socket, livenessMs, () => session.destroy())
  session.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    const authority = headers[':authority']
    if (headers[':method'] === 'CONNECT' && headers[':protocol'] === undefined && authority !== undefined) {
      if (clock.now() < peer.notAfter.getTime()) {
        return onRequest(tunnelRequest(stream, peer, authority, headers))
      }
      // Live streams go on; what was valid at the handshake may not open new ones for ever.
      onRefused(
        new PosternError('PSTN_PEER_EXPIRED', `${peer.identity}, serial ${peer.serial}`),
        peer.address,
      )
      return refuse(stream, 403, 'PSTN_PEER_EXPIRED')
    }
    onRefused(new PosternError('PSTN_TUNNEL_MALFORMED', `${headers[':method']} is no CONNECT`), peer.address)
    refuse(stream, 400, 'PSTN_TUNNEL_MALFORMED')
  })
}

/**
 * Ends every stream at once and says why: a GOAWAY with the code as its opaque data, since TLS alerts have no words
 * for our reasons. The socket is read on until the peer has read it: closed with unread bytes it would be a reset.
 */
export function dismiss(session: ServerHttp2Session, socket: TLSSocket, code: Code): void {
  if (session.destroyed) return
  session.goaway(GOAWAY_REFUSED, 0, Buffer.from(code))
  session.close()
  session.destroy()
  const timer = setTimeout(() => socket.destroy(), REFUSAL_LINGER_MS).unref()
  socket.once('close', () => clearTimeout(timer))
}

function tunnelRequest(
  stream: ServerHttp2Stream,
  peer: Peer,
  authority: string,
  headers: IncomingHttpHeaders,
): TunnelRequest {
  return {
    peer,
    authority,
    headers: kept(headers),
    accept: () => {
      if (!stream.closed && !stream.destroyed) stream.respond({ ':status': 200 })
      return asByteStream(stream)
    },
    refuse: (status, code) => refuse(stream, status, code),
  }
}

/** NO_ERROR after the answer asks the client to stop sending (RFC 9113, section 8.1); at once it would overtake it. */
function refuse(stream: ServerHttp2Stream, status: 400 | 403 | 503, code: Code): void {
  if (stream.closed || stream.destroyed) return
  stream.respond({ ':status': status, 'postern-code': code }, { endStream: true })
  stream.resume()
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR))
}

function kept(headers: IncomingHttpHeaders): Readonly<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of KEPT_HEADERS) {
    const value = headers[name]
    if (typeof value === 'string') found[name] = value
  }
  return found
}

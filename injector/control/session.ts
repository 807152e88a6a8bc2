// One verified peer's HTTP/2 session on the control port: a sidecar may open its control stream, a replica of the injector
// ask for the sidecars, and nothing else.
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { TLSSocket } from 'node:tls'
import { CONTROL_PATH, LOST_AFTER_MS, SIDECARS_PATH } from '../../shared/control/messages.ts'
import { type Code, PosternError } from '../../shared/errors.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import type { VerifiedPeer } from '../../shared/tls/peer-verifier.ts'
import { sendReports } from './reports.ts'
import type { Sidecars } from './sidecars.ts'
import { refuse, type StreamContext, serveStream } from './stream.ts'

export type Session = {
  /** Takes no new stream and ends the present one in good order. */
  close(): void
  /** Ends at once and says why: a GOAWAY with the code as its opaque data, as the tunnel does. */
  dismiss(code: Code): void
}

export const SESSION_OPTIONS = {
  settings: { maxConcurrentStreams: 2, maxHeaderListSize: 8 * 1024, enablePush: false },
  maxHeaderListPairs: 32,
} as const

/** How long a peer gets to read a GOAWAY, or to end its side of a stream. */
const LINGER_MS = 1_000

export function createSession(http2: ServerHttp2Session, socket: TLSSocket): Session {
  http2.on('error', () => undefined)
  const linger = () => {
    const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref()
    socket.once('close', () => clearTimeout(timer))
  }
  const streams = new Set<ServerHttp2Stream>()
  http2.on('stream', stream => {
    streams.add(stream)
    stream.once('close', () => streams.delete(stream))
  })
  return {
    close: () => {
      if (http2.destroyed) return
      http2.close()
      for (const stream of streams) stream.end()
      linger()
    },
    dismiss: code => {
      if (http2.destroyed) return
      http2.goaway(constants.NGHTTP2_INADEQUATE_SECURITY, 0, Buffer.from(code))
      http2.close()
      http2.destroy()
      linger()
    },
  }
}

export type SessionContext = StreamContext & {
  /** Every replica's. */
  readonly identity: SpiffeId
  readonly sidecars: Pick<Sidecars, 'reports'>
}

export function serveSession(http2: ServerHttp2Session, peer: VerifiedPeer, context: SessionContext): void {
  http2.setTimeout(2 * LOST_AFTER_MS, () => http2.close())
  http2.on('stream', (stream, headers) => {
    const { ':method': method, ':path': path } = headers
    if (method === 'POST' && path === CONTROL_PATH) {
      void serveStream(stream, peer, context)
      return
    }
    stream.on('error', () => undefined)
    if (method === 'GET' && path === SIDECARS_PATH) {
      serveReplica(stream, peer, context)
      return
    }
    stream.respond({ ':status': 404 }, { endStream: true })
    stream.resume()
  })
}

function serveReplica(
  stream: ServerHttp2Stream,
  peer: VerifiedPeer,
  { identity, sidecars, onRefused }: SessionContext,
): void {
  if (peer.identity === identity) {
    sendReports(stream, sidecars.reports())
    return
  }
  const refusal = new PosternError('PSTN_CONTROL_REJECTED', `${peer.identity} is no replica of the injector`)
  onRefused(refusal, peer, 'list of sidecars refused')
  refuse(stream, refusal.code, refusal.message)
}

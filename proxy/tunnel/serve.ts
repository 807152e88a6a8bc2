// One identified peer's connection, server side: each CONNECT becomes a TunnelRequest, everything else is refused.
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { ChurnSet } from '../../shared/churn.ts'
import type { Clock } from '../../shared/clock.ts'
import { type Code, PosternError } from '../../shared/errors.ts'
import { ErrorCode } from '../http2/errors.ts'
import { LentReads } from '../tcp/lent-reads.ts'
import type { Limit } from './abuse.ts'
import { type ConnectRequest, type TunnelHead, writeAnswer } from './connect-headers.ts'
import type { Allowance } from './flow-control.ts'
import type { Held } from './held.ts'
import type { Peer, TunnelRequest } from './interface.ts'
import { watchLiveness } from './liveness.ts'
import { Session } from './session.ts'
import { LIVENESS_INTERVAL_MS, SERVER_LIMITS } from './settings.ts'
import type { TunnelStream } from './stream.ts'

export type ServeOptions = {
  readonly clock: Clock
  /** A peer that is silent for three of these is dead, and perhaps for two. */
  readonly livenessMs?: number
  onRequest(request: TunnelRequest): void
  onRefused(error: PosternError, peerAddress: string | undefined): void
  onLimit?(limit: Limit): void
}

/** What all connections share. */
export type Shared = { readonly growth: Allowance; readonly held: Held }

/** For a peer that is not identified: only to say why, with `dismiss`. */
export const serveNobody = (socket: Duplex, { growth, held }: Shared): Session =>
  new Session({
    role: 'server',
    socket,
    growth,
    held,
    maxStreams: 0,
    onRequest: () => {},
    onLimit: () => {},
    onClose: () => {},
  })

export function serve(
  socket: TLSSocket,
  peer: Peer,
  options: ServeOptions,
  { growth, held }: Shared,
  onClose: () => void,
): Session {
  const { livenessMs = LIVENESS_INTERVAL_MS, onLimit = () => {} } = options
  const unanswered = new ChurnSet<TunnelStream>()
  const session: Session = new Session({
    role: 'server',
    socket,
    reads: LentReads.of(socket),
    growth,
    held,
    maxStreams: SERVER_LIMITS.maxConcurrentStreams,
    onRequest: (stream, request) => admit({ session, peer, unanswered, held }, stream, request, options),
    onLimit,
    onClose: () => {
      liveness[Symbol.dispose]()
      onClose()
    },
  })
  const liveness = watchLiveness(session, livenessMs, () => session.destroy())
  return session
}

type Connection = {
  readonly session: Session
  readonly peer: Peer
  readonly held: Held
  /** A stream that its peer has reset is gone at once; that its application is being dialled is not (CVE-2023-44487). */
  readonly unanswered: ChurnSet<TunnelStream>
}

function admit(
  connection: Connection,
  stream: TunnelStream,
  request: TunnelHead,
  { clock, onRequest, onRefused, onLimit }: ServeOptions,
): void {
  const { session, peer, unanswered, held } = connection
  if (unanswered.size >= SERVER_LIMITS.maxConcurrentStreams) {
    onLimit?.('tunnel_streams')
    session.streams.fail(stream.id, ErrorCode.REFUSED_STREAM)
    return
  }
  if (held.isTight) {
    // On another connection it would fare no better, and should not be asked again there.
    onLimit?.('tunnel_held')
    onRefused(new PosternError('PSTN_LIMIT', 'too much is held for others that do not read'), peer.address)
    refuse(session, stream, 503, 'PSTN_LIMIT')
    return
  }
  if (request.kind === 'connect' && clock.now() < peer.notAfter.getTime()) {
    unanswered.add(stream)
    onRequest(tunnelRequest(connection, stream, request))
    return
  }
  const error = refusal(request, peer)
  onRefused(error, peer.address)
  if (request.kind === 'malformed') session.streams.fail(stream.id, ErrorCode.PROTOCOL_ERROR)
  else refuse(session, stream, request.kind === 'connect' ? 403 : 400, error.code)
}

function refusal(request: TunnelHead, { identity, serial }: Peer): PosternError {
  switch (request.kind) {
    case 'connect':
      // Live streams go on; what was valid at the handshake may not open new ones for ever.
      return new PosternError('PSTN_PEER_EXPIRED', `${identity}, serial ${serial}`)
    case 'other':
      return new PosternError(
        'PSTN_TUNNEL_MALFORMED',
        `${JSON.stringify(request.method.slice(0, 100))} is no CONNECT`,
      )
    case 'malformed':
      return new PosternError('PSTN_TUNNEL_MALFORMED', request.why)
  }
}

const tunnelRequest = (
  { session, peer, unanswered }: Connection,
  stream: TunnelStream,
  { authority, headers }: ConnectRequest,
): TunnelRequest => ({
  peer,
  authority,
  headers,
  accept: () => {
    unanswered.delete(stream)
    session.streams.answer(stream, writeAnswer(200), false)
    return stream
  },
  refuse: (status, code) => {
    unanswered.delete(stream)
    refuse(session, stream, status, code)
  },
})

/** NO_ERROR after the answer asks the client to stop sending (RFC 9113, section 8.1). */
function refuse(session: Session, stream: TunnelStream, status: 400 | 403 | 503, code: Code): void {
  session.streams.answer(stream, writeAnswer(status, code), true)
  stream.reset(ErrorCode.NO_ERROR)
}

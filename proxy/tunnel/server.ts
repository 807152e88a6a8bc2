// The tunnel's listener: TLS 1.3 with a client certificate, HTTP/2, CONNECT only (HBONE). Nothing of a peer is seen by
// the rest of the proxy before the peer is identified; who is not is told why in a GOAWAY.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import {
  createServer as createTlsServer,
  type SecureContextOptions,
  type TLSSocket,
  type Server as TlsServer,
} from 'node:tls'
import { asPosternError, type Code, PosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import { LISTEN_BACKLOG } from '../../shared/ports.ts'
import { createShares, limitCallers } from '../../shared/shares.ts'
import { ErrorCode } from '../http2/errors.ts'
import type { Limit } from './abuse.ts'
import { retireAtExpiry } from './expiry.ts'
import { Allowance } from './flow-control.ts'
import { Held } from './held.ts'
import type { IdentifyPeer, KeepPeer, Peer, TunnelServer, TunnelTls } from './interface.ts'
import { createKeeper } from './keeper.ts'
import { type ServeOptions, serve, serveNobody } from './serve.ts'
import { chooseByServerName, serverNameOf } from './server-name.ts'
import type { Session } from './session.ts'
import { RECEIVE, SERVER_LIMITS } from './settings.ts'

export type TunnelServerOptions = ServeOptions & {
  /** All addresses if absent. */
  readonly host?: string
  /** 0 takes a free one. */
  readonly port: number
  /** Undefined: no certificate yet; every handshake fails. */
  readonly tls: Live<TunnelTls | undefined>
  readonly identify: IdentifyPeer
  /** Shared with the dialler: it is of one process. */
  readonly held?: Held
}

/** Without a certificate there is no handshake, and nobody is trusted. */
const NOTHING_YET: SecureContextOptions = { ca: [], minVersion: 'TLSv1.3' }

export async function listenTunnel(options: TunnelServerOptions): Promise<TunnelServer> {
  const { tls, clock, onRefused } = options
  const keeper = createKeeper(options.identify)
  const { held = new Held(options.onLimit) } = options
  const shared = { growth: new Allowance(RECEIVE.growth), held }
  const sessions = new Map<Session, { peer: Peer; socket: TLSSocket }>()
  let closed: Promise<unknown> | undefined
  const retireAll = () => {
    for (const session of sessions.keys()) session.retire()
  }

  const secured = createTlsServer({
    ...(tls.get()?.context ?? NOTHING_YET),
    requestCert: true,
    // The chain's verdict is part of `identify`, which can say what is wrong; there is no other way past it.
    rejectUnauthorized: false,
    SNICallback: chooseByServerName(tls),
    ALPNProtocols: ['h2'],
    handshakeTimeout: SERVER_LIMITS.handshakeTimeoutMs,
  })
  const server = createServer({ noDelay: true })
  server.maxConnections = SERVER_LIMITS.maxConnections
  let generation = tls.get()?.generation
  const stopRotation = tls.subscribe(next => {
    secured.setSecureContext(next?.context ?? NOTHING_YET)
    if (next?.generation === generation) return
    generation = next?.generation
    // Clients open their next streams elsewhere, and meet the present certificate there.
    retireAll()
  })
  const sockets = admitPeers(server, secured, options)
  secured.on('tlsClientError', (error, socket) => {
    onRefused(new PosternError('PSTN_TLS_FAILED', error.message, { cause: error }), socket.remoteAddress)
    socket.destroy()
  })
  secured.on('secureConnection', socket => {
    try {
      const peer = identified(socket, keeper.identify)
      const over = new AbortController()
      const onClose = () => {
        over.abort()
        sessions.delete(session)
      }
      const session = serve(socket, peer, options, shared, onClose)
      sessions.set(session, { peer, socket })
      void retireAtExpiry([ownExpiry(socket), peer.notAfter], clock, over.signal, () => session.retire())
      // Its handshake was under way when the drain began.
      if (closed) session.retire({ notice: false })
    } catch (thrown) {
      const refusal = asPosternError(thrown, 'PSTN_PEER_UNTRUSTED')
      onRefused(refusal, socket.remoteAddress)
      serveNobody(socket, shared).dismiss(ErrorCode.INADEQUATE_SECURITY, refusal.code)
    }
  })

  server.listen({
    port: options.port,
    backlog: LISTEN_BACKLOG,
    ...(options.host !== undefined && { host: options.host }),
  })
  await once(server, 'listening')
  const drain = async () => {
    closed ??= once(server.close(), 'close')
    retireAll()
    await closed
  }
  const sweepPeers = (keep: KeepPeer, code: Code): Peer[] => {
    const gone = [...sessions].filter(([, { peer, socket }]) => !keep(peer, socket))
    for (const [session] of gone) session.dismiss(ErrorCode.INADEQUATE_SECURITY, code)
    return gone.map(([, { peer }]) => peer)
  }
  return {
    port: (server.address() as AddressInfo).port,
    drain,
    closePeers: (keep, code) => {
      keeper.set(keep, code)
      sweepPeers(keep, code)
    },
    sweepPeers,
    [Symbol.asyncDispose]: async () => {
      stopRotation()
      const drained = drain()
      for (const session of sessions.keys()) session.destroy()
      for (const socket of sockets) socket.destroy()
      await drained
    },
  }
}

function identified(socket: TLSSocket, identify: IdentifyPeer): Peer {
  if (socket.alpnProtocol !== 'h2') throw new PosternError('PSTN_TLS_FAILED', 'the peer does not speak h2')
  return identify(socket, serverNameOf(socket))
}

/** Of the certificate that this connection was made with: a rotation may have come between. */
const ownExpiry = (socket: TLSSocket): Date => socket.getX509Certificate()?.validToDate ?? new Date(0)

/**
 * Hands connections on to TLS, but caps them, and those among them that have not shown who they are, in sum and by
 * address: whoever is beyond is never seen by TLS. Returns the raw sockets.
 */
function admitPeers(
  server: Server,
  secured: TlsServer,
  { onRefused, onLimit = () => {} }: TunnelServerOptions,
): ReadonlySet<Socket> {
  const refuse = (limit: Limit, what: string, address: string | undefined) => {
    onLimit(limit)
    onRefused(new PosternError('PSTN_LIMIT', `too many ${what}`), address)
  }
  const sockets = new Set<Socket>()
  const handshakes = new Map<string, () => void>()
  const shares = createShares(SERVER_LIMITS.maxHandshakesPerAddress)
  const handshakeOver = (key: string) => {
    handshakes.get(key)?.()
    handshakes.delete(key)
  }
  limitCallers(server, SERVER_LIMITS.maxConnectionsPerAddress, address =>
    refuse('tunnel_connections', 'tunnel connections of this address', address),
  )
  server.on('connection', (socket: Socket) => {
    if (socket.destroyed) return
    const { remoteAddress } = socket
    const share = handshakes.size < SERVER_LIMITS.maxHandshakes ? shares.take(remoteAddress) : undefined
    if (!share) {
      socket.destroy()
      refuse('tunnel_handshakes', 'handshakes at once', remoteAddress)
      return
    }
    const key = endpointKey(socket)
    sockets.add(socket)
    handshakes.set(key, share)
    socket.once('close', () => {
      sockets.delete(socket)
      handshakeOver(key)
    })
    secured.emit('connection', socket)
  })
  secured.on('secureConnection', socket => handshakeOver(endpointKey(socket)))
  server.on('drop', data => refuse('tunnel_connections', 'tunnel connections', data?.remoteAddress))
  return sockets
}

/** A TLS socket and the raw one below it have no link but their addresses. */
const endpointKey = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort}`

// The control stream's listener: mutual TLS with this replica's own SVID. A peer is verified before its first byte is
// read, with the same check as in the tunnel.
import { once } from 'node:events'
import { performServerHandshake } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { createServer, type TLSSocket } from 'node:tls'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { createLineQuota } from '../../shared/line-quota.ts'
import type { Live } from '../../shared/live.ts'
import type { Registry } from '../../shared/metrics.ts'
import { LISTEN_BACKLOG } from '../../shared/ports.ts'
import { limitCallers } from '../../shared/shares.ts'
import { type Anchors, anchorsOf, leadsTo } from '../../shared/tls/chain.ts'
import { type KeyedChain, secureContext, serverTlsOptions } from '../../shared/tls/contexts.ts'
import { type VerifiedPeer, verifyPeer } from '../../shared/tls/peer-verifier.ts'
import { checkRevoked } from './greeting.ts'
import { createSession, SESSION_OPTIONS, type Session, type SessionContext, serveSession } from './session.ts'
import type { Sidecars } from './sidecars.ts'
import type { StreamContext } from './stream.ts'

export type ControlServerOptions = Pick<
  SessionContext,
  'directory' | 'trust' | 'revocations' | 'federation' | 'clock' | 'log' | 'identity'
> & {
  readonly sidecars: Sidecars
  readonly host?: string
  /** 0 takes a free one. */
  readonly port: number
  readonly svid: Live<KeyedChain>
  readonly random: () => number
  readonly registry: Registry
}

export type ControlServer = AsyncDisposable & {
  readonly port: number
  /** Takes no new connection and ends the others one by one within `spreadMs`, so that sidecars do not come back at once. */
  drain(spreadMs: number): Promise<void>
}

const MAX_CONNECTIONS = 16_384
/** A pod has one, two while it restarts; any pod may dial. */
const MAX_CONNECTIONS_PER_ADDRESS = 32

const JUDGED_AT_ONCE = 100

export async function serveControl(options: ControlServerOptions): Promise<ControlServer> {
  const { svid, trust, revocations, clock, random, sidecars } = options
  const sessions = new Map<Session, { readonly peer: VerifiedPeer; readonly socket: TLSSocket }>()
  /** Once a root was removed: a handshake that began before must not outlive it. */
  let anchors: Anchors | undefined
  const onRefused = refusals(options)
  const context = { ...options, ...sidecars, sidecars, onRefused }

  const accept = (socket: TLSSocket) => {
    const http2 = performServerHandshake(socket, SESSION_OPTIONS)
    const session = createSession(http2, socket)
    try {
      const peer = verifyPeer(socket, { bundle: trust.get(), now: clock.now() })
      if (anchors && !leadsTo(anchors, socket))
        throw new PosternError('PSTN_PEER_UNTRUSTED', `${peer.identity} leads to a root that was removed`)
      checkRevoked(revocations, peer)
      sessions.set(session, { peer, socket })
      http2.once('close', () => sessions.delete(session))
      serveSession(http2, peer, context)
    } catch (thrown) {
      const refusal = asPosternError(thrown, 'PSTN_PEER_UNTRUSTED')
      onRefused(refusal, { address: socket.remoteAddress }, 'control connection refused')
      session.dismiss(refusal.code)
    }
  }

  const server = createServer(serverTlsOptions(svid.get(), trust.get()))
  server.maxConnections = MAX_CONNECTIONS
  const tooMany = (whose: string, address: string | undefined) =>
    onRefused(
      new PosternError('PSTN_LIMIT', `too many connections${whose}`),
      { address },
      'control connection refused',
    )
  server.on('drop', data => tooMany('', data?.remoteAddress))
  limitCallers(server, MAX_CONNECTIONS_PER_ADDRESS, address => tooMany(' of this address', address))
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.on('tlsClientError', (_, socket) => socket.destroy())
  server.on('secureConnection', accept)

  /** In portions: a signature a session takes a while with thousands of them. */
  const dismissBut = async (kept: Anchors) => {
    let judged = 0
    for (const [session, { socket }] of sessions) {
      if (!leadsTo(kept, socket)) session.dismiss('PSTN_PEER_UNTRUSTED')
      judged += 1
      if (judged % JUDGED_AT_ONCE === 0) await turn()
    }
  }
  const renew = () => server.setSecureContext(secureContext(svid.get(), trust.get()))
  let { roots } = trust.get()
  const stops = [
    svid.subscribe(renew),
    trust.subscribe(bundle => {
      renew()
      const removed = roots.some(root => !bundle.roots.includes(root))
      roots = bundle.roots
      // A root that came since is one, too.
      if (anchors || removed) anchors = anchorsOf(roots)
      // Whoever a removed root has vouched for is out; all others hear of it on their streams.
      if (anchors && removed) void dismissBut(anchors)
    }),
    revocations.check.subscribe(check => {
      for (const [session, { peer }] of sessions) {
        const reason = check?.(peer)
        if (reason === undefined) continue
        onRefused(new PosternError('PSTN_PEER_REVOKED', reason), peer, 'control connection closed')
        session.dismiss('PSTN_PEER_REVOKED')
      }
    }),
  ]

  server.listen({
    port: options.port,
    backlog: LISTEN_BACKLOG,
    ...(options.host && { host: options.host }),
  })
  await once(server, 'listening')
  let closed: Promise<unknown> | undefined
  const stopListening = () => {
    closed ??= once(server.close(), 'close')
    return closed
  }
  return {
    port: (server.address() as AddressInfo).port,
    drain: async spreadMs => {
      const done = stopListening()
      const never = new AbortController()
      for (const session of sessions.keys()) {
        void clock.sleep(random() * spreadMs, never.signal).then(() => session.close())
      }
      await done
    },
    [Symbol.asyncDispose]: async () => {
      for (const stop of stops) stop()
      const done = stopListening()
      for (const socket of sockets) socket.destroy()
      await done
    },
  }
}

function refusals({ registry, log }: ControlServerOptions): StreamContext['onRefused'] {
  const refused = registry.counter(
    'postern_control_refused_total',
    'Control connections and streams that were refused, by code.',
    ['code'],
  )
  const quota = createLineQuota(log)
  return ({ code, message }, { address, identity }, what) => {
    refused.inc({ code })
    if (quota({ code, address, identity })) log.warn({ code, error: message, peer: identity, address }, what)
  }
}

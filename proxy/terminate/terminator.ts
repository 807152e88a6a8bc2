// TLS for callers without a sidecar, on the application's own port: the handshake with this pod's SVID, who the caller is,
// and the end of connections whose caller would not come in any more. What is decrypted goes the way of all else.
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import { ChurnSet } from '../../shared/churn.ts'
import type { Clock } from '../../shared/clock.ts'
import { Ending, type EndSignal } from '../../shared/ending.ts'
import { asPosternError, type Code, PosternError } from '../../shared/errors.ts'
import type { PartnerClients } from '../../shared/federation/model.ts'
import type { Live } from '../../shared/live.ts'
import type { TlsMode } from '../../shared/policy/model.ts'
import type { Protocol } from '../../shared/protocol.ts'
import { createShares } from '../../shared/shares.ts'
import { HANDSHAKE_TIMEOUT_MS } from '../../shared/tls/contexts.ts'
import type { ByteStream } from '../tunnel/byte-stream.ts'
import type { KeepPeer, Peer, TunnelServer, TunnelTls } from '../tunnel/interface.ts'
import { ownInForce } from '../tunnel/own-in-force.ts'
import { SERVER_LIMITS } from '../tunnel/settings.ts'
import { handshake } from './handshake.ts'

/** A connection of which nothing was read, and where it was going. */
export type Encrypted = {
  readonly stream: ByteStream
  /** The caller's, canonical. */
  readonly address: string
  readonly port: number
  readonly mode: TlsMode
  /** What the port is declared to speak. */
  readonly protocol: Protocol | undefined
}

export type Decrypted = {
  readonly stream: ByteStream
  /** Undefined where no certificate was asked for. */
  readonly peer: Peer | undefined
  /** Aborts when the connection is to end before its time: its caller would not come in any more. */
  readonly signal: EndSignal
  /** It is over: nobody is to be asked about it any more. */
  release(): void
}

/** Every check on a TLS socket whose handshake is done, by a caller who showed a certificate. @throws PosternError PSTN_PEER_… */
export type IdentifyCaller = (socket: TLSSocket, from: Pick<Encrypted, 'address' | 'port'>) => Peer

type PeerEnd = Pick<TunnelServer, 'closePeers' | 'sweepPeers'>

export type Terminator = Disposable &
  PeerEnd & {
    /** Where it fails nothing is left of the connection. @throws PosternError */
    accept(connection: Encrypted): Promise<Decrypted>
  }

export type TerminatorOptions = {
  /** What is shown. */
  readonly tls: Live<TunnelTls | undefined>
  readonly identify: IdentifyCaller
  /** Our own: who is of another one is no SVID's bearer, and known by the port's clients alone. */
  readonly trustDomain: string
  /** By port, whose certificates are taken beside our own. */
  readonly clients: Live<readonly PartnerClients[]>
  readonly clock: Clock
  onLimit(limit: 'tls_handshakes'): void
}

/** A port without a protocol says nothing of one, so that it is the application's affair what is spoken. */
const ALPN = { http1: ['http/1.1'], http2: ['h2'] } as const satisfies Record<Protocol, readonly string[]>

type Session = {
  readonly peer: Peer
  readonly socket: TLSSocket
  readonly from: Pick<Encrypted, 'address' | 'port'>
  readonly ending: Ending
}

export function createTerminator(options: TerminatorOptions): Terminator {
  const { tls, identify, trustDomain, clients, clock, onLimit } = options
  const contextOf = latestContexts(clients)
  const takeHandshake = handshakeShares(onLimit)
  const sessions = new ChurnSet<Session>()
  let keeps: KeepPeer = () => true
  let refusal: Code = 'PSTN_PEER_UNTRUSTED'

  const isClient = ({ trustDomain: theirs }: Peer) => theirs !== trustDomain
  const refusalNow = ({ socket, from }: Session): PosternError | undefined => {
    try {
      identify(socket, from)
      return undefined
    } catch (thrown) {
      return asPosternError(thrown, 'PSTN_PEER_UNTRUSTED')
    }
  }
  const judgeClients = () => {
    for (const session of [...sessions].filter(({ peer }) => isClient(peer))) {
      const refused = refusalNow(session)
      if (refused) session.ending.abort(refused)
    }
  }
  const stop = clients.subscribe(judgeClients)
  const sweepPeers = (keep: KeepPeer, code: Code): Peer[] => {
    const gone = [...sessions].filter(({ peer, socket }) => !keep(peer, socket))
    for (const { peer, ending } of gone) ending.abort(new PosternError(code, `${peer.identity}, as of now`))
    return gone.map(({ peer }) => peer)
  }
  const identified = (socket: TLSSocket, from: Encrypted): Peer => {
    const peer = identify(socket, from)
    // A handshake that began before a root was removed must not outlive it.
    if (isClient(peer) || keeps(peer, socket)) return peer
    throw new PosternError(refusal, `${peer.identity} is no longer trusted`)
  }
  return {
    accept: async connection => {
      const { stream: plain, mode, protocol, address } = connection
      const requestCert = mode === 'mutual'
      const alpn = protocol ? ALPN[protocol] : []
      const { secureContext, share } = orReset(plain, () => ({
        secureContext: contextOf(ownInForce(tls.get(), clock.now()), connection.port),
        share: takeHandshake(address),
      }))
      using _ = share
      const timeoutMs = HANDSHAKE_TIMEOUT_MS
      const { socket, stream } = await handshake(plain, { secureContext, requestCert, alpn, timeoutMs })
      const ending = new Ending()
      if (!requestCert) return { stream, peer: undefined, signal: ending, release: () => {} }
      const from = { address, port: connection.port }
      const session = { peer: orReset(plain, () => identified(socket, connection)), socket, from, ending }
      sessions.add(session)
      return { stream, peer: session.peer, signal: ending, release: () => sessions.delete(session) }
    },
    closePeers: (keep, code) => {
      keeps = keep
      refusal = code
      judgeClients()
      sweepPeers((peer, socket) => isClient(peer) || keep(peer, socket), code)
    },
    sweepPeers,
    [Symbol.dispose]: stop,
  }
}

function orReset<T>(stream: ByteStream, act: () => T): T {
  try {
    return act()
  } catch (thrown) {
    stream.reset()
    throw thrown
  }
}

/** Keys and roots are parsed once for each credential, bundle and port with clients of its own. */
function latestContexts(clients: Live<readonly PartnerClients[]>) {
  let latest: { readonly own: TunnelTls; readonly clients: readonly PartnerClients[] } | undefined
  const contexts = new Map<number | undefined, SecureContext>()
  return (own: TunnelTls, port: number): SecureContext => {
    const present = clients.get()
    if (latest?.own !== own || latest.clients !== present) contexts.clear()
    latest = { own, clients: present }
    const theirs = present.filter(({ ports }) => ports.includes(port)).flatMap(({ roots }) => roots)
    const create = () => createSecureContext({ ...own.context, ca: [own.context.ca ?? [], theirs].flat() })
    return contexts.getOrInsertComputed(theirs.length > 0 ? port : undefined, create)
  }
}

/** Those who have not shown who they are, in sum and by address. */
function handshakeShares(onLimit: TerminatorOptions['onLimit']): (address: string) => Disposable {
  const shares = createShares(SERVER_LIMITS.maxHandshakesPerAddress)
  let all = 0
  return address => {
    const release = all < SERVER_LIMITS.maxHandshakes ? shares.take(address) : undefined
    if (!release) {
      onLimit('tls_handshakes')
      throw new PosternError('PSTN_LIMIT', 'too many handshakes at once')
    }
    all += 1
    return {
      [Symbol.dispose]: () => {
        all -= 1
        release()
      },
    }
  }
}

/** Whoever comes in, whichever way. */
export const bothEnds = (...ends: readonly PeerEnd[]): PeerEnd => ({
  closePeers: (keep, code) => {
    for (const end of ends) end.closePeers(keep, code)
  },
  sweepPeers: (keep, code) => ends.flatMap(end => end.sweepPeers(keep, code)),
})

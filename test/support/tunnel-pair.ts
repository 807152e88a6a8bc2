// A real tunnel listener and dialler on loopback, each with its own credential: what tests of the data path start from.
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import type { Trusted } from '../../proxy/identify/trusted.ts'
import { identifyPeers, tunnelTls } from '../../proxy/identify/tunnel-tls.ts'
import { createTunnelDialer } from '../../proxy/tunnel/dialer.ts'
import type { Held } from '../../proxy/tunnel/held.ts'
import type {
  Peer,
  TunnelDialer,
  TunnelRequest,
  TunnelServer,
  TunnelTarget,
  TunnelTls,
} from '../../proxy/tunnel/interface.ts'
import { listenTunnel } from '../../proxy/tunnel/server.ts'
import { systemClock } from '../../shared/clock.ts'
import type { MeshPod } from '../../shared/control/messages.ts'
import type { PosternError } from '../../shared/errors.ts'
import { NO_PARTNERS } from '../../shared/federation/partners.ts'
import { live, type Settable } from '../../shared/live.ts'
import { type TestAuthority, testAuthority } from './certificates.ts'
import { DuplexOf } from './duplex-of.ts'

export const TRUST_DOMAIN = 'cluster.local'
export const SERVER_ID = `spiffe://${TRUST_DOMAIN}/ns/shop/sa/server`
export const CLIENT_ID = `spiffe://${TRUST_DOMAIN}/ns/shop/sa/client`

export type TunnelPair = AsyncDisposable & {
  readonly authority: TestAuthority
  readonly server: TunnelServer
  readonly dialer: TunnelDialer
  readonly serverTls: Settable<TunnelTls | undefined>
  readonly clientTls: Settable<TunnelTls | undefined>
  /** What the listener refused before there was a request. */
  readonly refused: PosternError[]
  /** Of the listener. */
  readonly limits: string[]
  /** A fresh credential of `identity` as TLS options. */
  issue(identity: string, generation?: number): Promise<TunnelTls>
  /** The dialler's end of the connection that was opened to `peer`. */
  socketOf(peer: Peer): TLSSocket
  open(target?: Partial<TunnelTarget>, signal?: AbortSignal): Promise<{ stream: DuplexOf; peer: Peer }>
}

export type PairOptions = {
  readonly onRequest: (request: TunnelRequest) => void
  readonly serverId?: string
  /** Issues the client's certificate; another authority makes it a stranger. */
  readonly clientAuthority?: TestAuthority
  readonly livenessMs?: number
  /** The listener's. */
  readonly held?: Held
  /** What the dialler dials instead of the listener, given the listener's port, what it shows and who issued that. */
  readonly dialPort?: (port: number, tls: TunnelTls, authority: TestAuthority) => Promise<number>
}

export async function tunnelPair({
  onRequest,
  serverId = SERVER_ID,
  clientAuthority,
  livenessMs,
  held,
  dialPort = async port => port,
}: PairOptions): Promise<TunnelPair> {
  const authority = await testAuthority(TRUST_DOMAIN)
  const issueBy =
    (issuer: TestAuthority) =>
    async (identity: string, generation = 1): Promise<TunnelTls> =>
      tunnelTls((await issuer.issue({ identity })).credential(generation), authority.bundle)
  const issue = issueBy(authority)
  const shown = await issue(serverId)
  const serverTls = live<TunnelTls | undefined>(shown)
  const clientTls = live<TunnelTls | undefined>(await issueBy(clientAuthority ?? authority)(CLIENT_ID))
  const identify = identifyPeers(trustedOf(authority), systemClock)
  const refused: PosternError[] = []
  const limits: string[] = []
  const common = { identify, clock: systemClock, ...(livenessMs !== undefined && { livenessMs }) }
  const server = await listenTunnel({
    ...common,
    host: '127.0.0.1',
    port: 0,
    tls: serverTls,
    onRequest,
    onRefused: error => refused.push(error),
    onLimit: limit => limits.push(limit),
    ...(held && { held }),
  })
  const sockets = new Map<Peer, TLSSocket>()
  const dialer = createTunnelDialer({
    ...common,
    identify: socket => {
      const peer = identify(socket)
      sockets.set(peer, socket)
      return peer
    },
    tls: clientTls,
    port: await dialPort(server.port, shown, authority),
  })
  return {
    authority,
    server,
    dialer,
    serverTls,
    clientTls,
    refused,
    limits,
    issue,
    socketOf: peer => {
      const socket = sockets.get(peer)
      if (!socket) throw new Error('no connection to this peer')
      return socket
    },
    open: async (target = {}, signal = AbortSignal.timeout(20_000)) => {
      const { stream, peer } = await dialer.open({ ...serverTarget(), ...target }, signal)
      return { stream: new DuplexOf(stream), peer }
    },
    async [Symbol.asyncDispose]() {
      await dialer[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    },
  }
}

export const serverTarget = (): TunnelTarget => ({
  address: '127.0.0.1',
  authority: '127.0.0.1:8080',
  headers: {},
  expected: SERVER_POD,
})

export const SERVER_POD: MeshPod = {
  uid: 'uid-1',
  name: 'server-0',
  namespace: 'shop',
  identity: SERVER_ID,
  skipInboundPorts: [],
}

/** One trust domain, and no partner. */
export const trustedOf = ({ trustDomain, bundle }: TestAuthority): Trusted => ({
  trustDomain,
  trust: live(bundle),
  partners: live(NO_PARTNERS),
})

/** Everything until an orderly end; rejects if the stream was cut off instead. */
export async function readAll(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  const outcome = await endOf(stream)
  if (outcome !== 'ended') throw new Error(`the stream was ${outcome}`)
  return Buffer.concat(chunks)
}

/** How the readable side of a flowing stream ends. */
export async function endOf(stream: Readable): Promise<'ended' | 'cut off'> {
  const { promise, resolve } = Promise.withResolvers<'ended' | 'cut off'>()
  stream.once('end', () => resolve('ended'))
  stream.on('error', () => resolve('cut off'))
  stream.once('close', () => resolve('cut off'))
  if (stream.destroyed) resolve('cut off')
  return promise
}

/** The next chunk as text. */
export async function nextText(stream: Readable): Promise<string> {
  const [chunk] = await once(stream, 'data')
  return String(chunk)
}

// One trust domain's end of a tunnel on loopback: a listener with an echo, and diallers, all judged as a sidecar judges them. Two
// of them with each other's roots are partners. And a stranger, who shows and says whatever a test wants.
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type IdentityFacts, judgeConnectedPeers } from '../../proxy/identify/connected-peers.ts'
import { unlessRevoked } from '../../proxy/identify/revoked.ts'
import { identifyPeers, tunnelTls } from '../../proxy/identify/tunnel-tls.ts'
import { createTunnelDialer } from '../../proxy/tunnel/dialer.ts'
import type { TunnelDialer, TunnelServer } from '../../proxy/tunnel/interface.ts'
import { listenTunnel } from '../../proxy/tunnel/server.ts'
import { systemClock } from '../../shared/clock.ts'
import type { PosternError } from '../../shared/errors.ts'
import type { Partner } from '../../shared/federation/model.ts'
import { NO_PARTNERS, partnersOf } from '../../shared/federation/partners.ts'
import { derived, live, mapped } from '../../shared/live.ts'
import { NOBODY_REVOKED, type Revoked, revocationCheck } from '../../shared/revocation.ts'
import { secureContext } from '../../shared/tls/contexts.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { type Issued, type TestAuthority, testAuthority } from './certificates.ts'
import { withDuplex } from './duplex-of.ts'

export type PartnerMesh = AsyncDisposable & {
  readonly authority: TestAuthority
  readonly server: TunnelServer
  /** Of another mesh's listener. */
  dialerTo(port: number): TunnelDialer
  /** What the listener refused before there was a request. */
  readonly refused: readonly PosternError[]
  /** Identities whose requests were seen. */
  readonly served: readonly string[]
  /** Identities whose connections were closed because they are revoked. */
  readonly closed: readonly string[]
  setPartners(...partners: readonly Partner[]): void
  setRoots(...roots: readonly string[]): void
  revoke(revoked: Partial<Revoked>): void
}

export async function partnerMesh(trustDomain: string): Promise<PartnerMesh> {
  await using stack = new AsyncDisposableStack()
  const authority = await testAuthority(trustDomain)
  const trust = live<TrustBundle | undefined>(authority.bundle)
  const partners = live(NO_PARTNERS)
  const revoked = live(revocationCheck(NOBODY_REVOKED))
  const credential = (await authority.issue({ identity: idIn(trustDomain) })).credential()
  const tls = derived([trust, partners], () =>
    tunnelTls(credential, trust.get() ?? { trustDomain, roots: [] }, partners.get().bundles),
  )
  const trusted = { trustDomain, trust, partners }
  const identify = unlessRevoked(identifyPeers(trusted, systemClock), revoked.get)
  const [refused, served, closed]: [PosternError[], string[], string[]] = [[], [], []]
  const server = stack.use(
    await listenTunnel({
      host: '127.0.0.1',
      port: 0,
      tls,
      identify,
      clock: systemClock,
      onRequest: withDuplex(request => {
        served.push(request.peer.identity)
        const stream = request.accept()
        stream.on('error', () => {}).pipe(stream)
      }),
      onRefused: error => refused.push(error),
    }),
  )
  const nobody = { closePeers: () => {}, sweepPeers: () => [] }
  const facts: IdentityFacts = {
    trusted,
    tls,
    vouching: mapped(trust, bundle => bundle?.roots ?? []),
    revoked,
    onRevoked: (_direction, peers) => closed.push(...peers.map(({ identity }) => identity)),
  }
  stack.use(judgeConnectedPeers({ inbound: server, outbound: nobody }, facts))
  const lifetime = stack.move()
  return {
    authority,
    server,
    dialerTo: port => {
      const dialer = lifetime.use(createTunnelDialer({ tls, identify, clock: systemClock, port }))
      lifetime.use(judgeConnectedPeers({ inbound: nobody, outbound: dialer }, facts))
      return dialer
    },
    refused,
    served,
    closed,
    setPartners: (...given) => partners.set(partnersOf(given, { trustDomain, prefixes: [] })),
    setRoots: (...roots) => trust.set({ trustDomain, roots }),
    revoke: more => revoked.set(revocationCheck({ ...NOBODY_REVOKED, ...more })),
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

export const idIn = (trustDomain: string, account = 'web') => `spiffe://${trustDomain}/ns/shop/sa/${account}`

/** As a partner, dialled at loopback. */
export const asPartner = (
  { trustDomain, root }: TestAuthority,
  identities: readonly string[] = [`spiffe://${trustDomain}/*`],
  roots: readonly string[] = [root],
): Partner => ({ trustDomain, roots, destinations: [{ cidr: '127.0.0.1/32', identities }] })

/** As a partner that calls and is not dialled. */
export const asCaller = (authority: TestAuthority): Partner => ({ ...asPartner(authority), destinations: [] })

/** `welcome`, or the code by which somebody with this certificate who says this name is refused. */
export async function stranger(port: number, { key, chain }: Issued, servername?: string): Promise<string> {
  const socket = connectTls({
    ...secureContext({ key, chain }, { trustDomain: 'any', roots: [] }),
    host: '127.0.0.1',
    port,
    ...(servername !== undefined && { servername }),
    ALPNProtocols: ['h2'],
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  })
  const session = connectHttp2('https://127.0.0.1', { createConnection: () => socket })
  const failed = once(session, 'error').then(([error]) => String(error))
  const refused = once(session, 'goaway').then(([, , opaque]) => String(opaque))
  const stream = session.request({ ':method': 'CONNECT', ':authority': '127.0.0.1:8080' })
  const answered = once(
    stream.on('error', () => {}),
    'response',
  ).then(() => 'welcome')
  const all = [answered, refused, failed]
  for (const each of all) each.catch(() => {})
  try {
    return await Promise.race(all)
  } finally {
    session.destroy()
  }
}

/** Passes a client's hello on, and holds what comes after it until it is released. */
export async function haltingRelay(port: number) {
  const hello = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  const sockets: Socket[] = []
  const relay = createServer(client => {
    const server = connect({ host: '127.0.0.1', port })
    for (const socket of [client, server]) sockets.push(socket.on('error', () => {}))
    server.pipe(client)
    client.once('data', first => {
      server.write(first)
      client.pause()
      void released.promise.then(() => client.pipe(server))
    })
    // The server's answer: it has chosen its context.
    server.once('data', () => hello.resolve())
  })
  await once(relay.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (relay.address() as AddressInfo).port,
    halted: hello.promise,
    release: () => released.resolve(),
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      relay.close()
    },
  }
}

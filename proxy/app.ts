// The sidecar’s long-lived objects, joined in one place: what it is told (config), what keeps it supplied (supply.ts), the data
// path between its listeners, and how it ends.
import { setMaxListeners } from 'node:events'
import { join } from 'node:path'
import { canonicalAddress } from '../shared/addresses.ts'
import { Ending } from '../shared/ending.ts'
import { PosternError } from '../shared/errors.ts'
import { derived, mapped } from '../shared/live.ts'
import { onLinesLost } from '../shared/log.ts'
import { createRegistry } from '../shared/metrics.ts'
import { NO_PROTOCOLS, protocolOf } from '../shared/protocol.ts'
import { startAdminSocket } from './admin/admin-socket.ts'
import { isReady } from './admin/readiness.ts'
import { answerStartupProbe } from './admin/startup.ts'
import { startStatusServer } from './admin/status-server.ts'
import { type Authenticator, createAuthenticator } from './authenticate/authenticator.ts'
import { fetchKeys } from './authenticate/jwks-fetch.ts'
import { createKeySets } from './authenticate/key-sets.ts'
import { type Authorizer, createAuthorizer } from './authorize/authorizer.ts'
import { describeConfig } from './config.ts'
import { judgeConnectedPeers } from './identify/connected-peers.ts'
import { unlessRevoked } from './identify/revoked.ts'
import { identifyCallers } from './identify/tls-callers.ts'
import { identifyPeers } from './identify/tunnel-tls.ts'
import { createInbound } from './inbound.ts'
import { createObserver, refusalOf } from './observe/access-log.ts'
import type { Direction } from './observe/connection-record.ts'
import { observeEndpoints, observeKeys, observeRevoked } from './observe/events.ts'
import { createProxyMetrics, limitCounter, type ProxyMetrics } from './observe/metrics.ts'
import { createOriginator } from './originate/originator.ts'
import { outbound } from './outbound.ts'
import type { ProxyParts } from './parts.ts'
import { createOutside } from './resolve/outside.ts'
import { createResolver } from './resolve/resolver.ts'
import { createServices } from './resolve/services.ts'
import { type Supply, startSupply } from './supply.ts'
import { bothEnds, createTerminator } from './terminate/terminator.ts'
import { createTunnelDialer } from './tunnel/dialer.ts'
import { Held } from './tunnel/held.ts'
import { listenTunnel } from './tunnel/server.ts'

export type Proxy = AsyncDisposable & {
  /** Resolves when `POST /quit` asks for the end; rejects when a part fails for good. */
  readonly ended: Promise<void>
  /** Takes nothing new from other pods, lets live connections end for as long as configured, then ends the rest. */
  drain(): Promise<void>
}

export async function startProxy(parts: ProxyParts): Promise<Proxy> {
  const { config, listeners, log, clock, version } = parts
  const { settings, pod } = config
  log.info({ version, config: describeConfig(config) }, 'starting')
  const registry = createRegistry()
  const metrics = createProxyMetrics(registry)
  metrics.build.set({ version }, 1)
  metrics.controlConnected.set({}, 0)
  const onLimit = limitCounter(metrics)
  onLinesLost(log, () => onLimit('log_lines'))

  await using stack = new AsyncDisposableStack()
  const stopped = new AbortController()
  setMaxListeners(0, stopped.signal)
  stack.defer(() => stopped.abort())
  const supply = await startSupply(parts, metrics, stopped.signal, stack)
  const path = await startDataPath(parts, metrics, supply, stack)
  const quit = Promise.withResolvers<void>()
  stack.use(
    await startStatusServer({
      ...listeners.status,
      metrics: registry,
      probes: settings.probes,
      podIp: pod.ips[0] ?? '127.0.0.1',
      readiness: supply.readiness,
      quit: quit.resolve,
      onLimit,
    }),
  )
  stack.use(
    await startAdminSocket({
      path: join(config.stateDir, 'admin.sock'),
      log,
      config: () => ({ config: describeConfig(config), state: supply.state.get() }),
      certificates: supply.certificates,
      drain: () => void path.drainInbound(),
    }),
  )
  log.info('listening')

  const objects = stack.move()
  return {
    ended: Promise.race([quit.promise, supply.failed]),
    drain: async () => {
      log.info({ seconds: settings.drainSeconds }, 'draining')
      // The application may still dial while it answers its last callers.
      const over = path.drainInbound().then(path.drainOutbound)
      const timedOut = clock.sleep(settings.drainSeconds * 1000, stopped.signal).catch(() => {})
      await Promise.race([over, timedOut])
      path.end(new PosternError('PSTN_DRAINING', 'the time to drain is over'))
    },
    [Symbol.asyncDispose]: async () => {
      stopped.abort()
      await objects.disposeAsync()
    },
  }
}

/** Both drains accept nothing more, and resolve when the last live connection has ended. */
type DataPath = {
  drainInbound(): Promise<unknown>
  drainOutbound(): Promise<void>
  /** Ends what is still open, to the application and from it. */
  end(reason: PosternError): void
}

async function startDataPath(
  { config, listeners, log, clock, random }: ProxyParts,
  metrics: ProxyMetrics,
  { tls, trust, vouching, partners, revoked, policy, state, directory, readiness }: Supply,
  stack: AsyncDisposableStack,
): Promise<DataPath> {
  const { settings, pod } = config
  const podIps = pod.ips
  const observer = createObserver(log, metrics, clock)
  const refusedAtAccept = (direction: Direction) => (error: PosternError, address?: string) =>
    observer.refused(
      observer.start(direction, { address: canonicalAddress(address ?? '') ?? 'unknown' }),
      refusalOf(error),
    )
  const trusted = { trustDomain: settings.trustDomain, trust, partners }
  const identify = unlessRevoked(identifyPeers(trusted, clock), revoked.get)

  const protocols = mapped(state, now => now?.protocols ?? NO_PROTOCOLS)
  const authorizer = stack.use(createAuthorizer(policy, protocols))
  const authenticator = stack.use(
    startAuthenticator({ clock, random, log }, metrics, state, authorizer, stack),
  )
  const draining = new Ending()
  const onLimit = limitCounter(metrics)
  const { trustDomain } = settings
  const clients = derived([state], () => state.get()?.partnerClients ?? [])
  const terminator = stack.use(
    createTerminator({
      tls,
      identify: identifyCallers({
        ...{ trustDomain, trust, revoked, clock },
        clientsAt: port => clients.get().filter(({ ports }) => ports.includes(port)),
      }),
      trustDomain,
      clients,
      clock,
      onLimit,
    }),
  )
  const inbound = createInbound({
    podIps,
    identity: config.identity,
    now: clock.monotonic,
    authorizer,
    authenticator,
    terminator,
    tlsMode: port => policy.get()?.mode.tls?.[port],
    protocolOf: port => protocolOf(protocols.get(), port),
    observer,
    draining,
    answerStartupProbe: ({ stream }) =>
      answerStartupProbe(stream, settings.startupPath, () => isReady(readiness())),
  })
  const held = new Held(onLimit)
  const tunnel = stack.use(
    await listenTunnel({
      ...listeners.tunnel,
      tls,
      identify,
      clock,
      onRequest: request => void inbound.tunnelled(request),
      onRefused: refusedAtAccept('inbound'),
      onLimit,
      held,
    }),
  )
  const inboundCapture = stack.use(
    await listeners.inbound({
      onConnection: connection => void inbound.captured(connection),
      onRefused: (error, peer) => refusedAtAccept('inbound')(error, peer?.address),
    }),
  )

  const dialer = stack.use(
    createTunnelDialer({ tls, identify, clock, port: listeners.peerTunnelPort, onLimit, held }),
  )
  const outside = createOutside(state, settings.outbound, partners)
  const services = createServices({
    outside,
    now: clock.monotonic,
    random,
    observe: observeEndpoints(log, metrics),
  })
  const resolver = createResolver({ state, directory, services, outside })
  const shutdown = new Ending()
  const originator = createOriginator({ tls, clock })
  const parts = { podIps, resolver, dialer, originator, outside, observer, metrics, shutdown }
  const outboundCapture = stack.use(
    await listeners.outbound({
      onConnection: connection => void outbound(connection, parts),
      onRefused: (error, peer) => refusedAtAccept('outbound')(error, peer?.address),
    }),
  )

  stack.use(
    judgeConnectedPeers(
      { inbound: bothEnds(tunnel, terminator), outbound: dialer },
      { trusted, tls, vouching, revoked, onRevoked: observeRevoked(log, metrics) },
    ),
  )
  return {
    drainInbound: () => {
      const over = Promise.all([inboundCapture.drain(), tunnel.drain()])
      draining.abort(undefined)
      return over
    },
    drainOutbound: () => outboundCapture.drain(),
    end: reason => {
      shutdown.abort(reason)
      authorizer.endAll(reason)
    },
  }
}

/** How long a stream may outlive the token that it came with. */
const JUDGED_EVERY_MS = 2_000

/** Whom tokens speak of, for as long as they do: whoever is nobody any more loses what is under way. */
function startAuthenticator(
  { clock, random, log }: Pick<ProxyParts, 'clock' | 'random' | 'log'>,
  metrics: ProxyMetrics,
  state: Supply['state'],
  authorizer: Authorizer,
  stack: AsyncDisposableStack,
): Authenticator {
  const stopped = new AbortController()
  stack.defer(() => stopped.abort())
  const { signal } = stopped
  const keySets = createKeySets({
    fetch: fetchKeys(),
    clock,
    random,
    observe: observeKeys(log, metrics),
    signal,
  })
  metrics.onCollect(() => {
    const oldest = keySets.oldest()
    if (oldest !== undefined) metrics.jwksFetched.set({}, oldest / 1000)
  })
  const declared = mapped(state, now => now?.requestAuthentication ?? [])
  const authenticator = createAuthenticator(declared, keySets, clock)
  const judge = () => authorizer.judgeUsers(authenticator.judge)
  authenticator.onChange(judge)
  const timer = setInterval(() => {
    if (declared.get().length > 0) judge()
  }, JUDGED_EVERY_MS)
  timer.unref()
  signal.addEventListener('abort', () => clearInterval(timer), { once: true })
  return authenticator
}

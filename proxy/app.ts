// The sidecar's long-lived objects, made and joined in one place: what it is told (config), what keeps it supplied
// (certificate, trust, control stream), the data path between its listeners, and how it ends.
import { setMaxListeners } from 'node:events'
import { join } from 'node:path'
import { canonicalAddress } from '../shared/addresses.ts'
import type { Clock } from '../shared/clock.ts'
import { KNOWN_FEATURES, type State } from '../shared/control/messages.ts'
import { Ending } from '../shared/ending.ts'
import { type Code, PosternError } from '../shared/errors.ts'
import { connectKube } from '../shared/kube/rest.ts'
import { derived, type Live, live, mapped } from '../shared/live.ts'
import { failure, type Logger, onLinesLost } from '../shared/log.ts'
import { createRegistry } from '../shared/metrics.ts'
import { type CompiledPolicy, compile } from '../shared/policy/compile.ts'
import { NO_PROTOCOLS } from '../shared/protocol.ts'
import type { Renewal } from '../shared/renewal-order.ts'
import { NOBODY_REVOKED, type RevocationCheck, revocationCheck } from '../shared/revocation.ts'
import type { TrustBundle } from '../shared/trust-bundle.ts'
import type { CaptureListener, CaptureOptions } from './accept/listeners.ts'
import { startAdminSocket } from './admin/admin-socket.ts'
import { isReady, NEVER_READY, nextReadiness, type Readiness } from './admin/readiness.ts'
import { answerStartupProbe } from './admin/startup.ts'
import { startStatusServer } from './admin/status-server.ts'
import { createAuthorizer } from './authorize/authorizer.ts'
import { openCertFiles } from './cert-files/keeper.ts'
import { describeConfig, type ProxyConfig } from './config.ts'
import { clockSkew } from './credentials/clock-skew.ts'
import type { Credential } from './credentials/credential.ts'
import { CSR_TIMEOUT_MS } from './credentials/csr-source.ts'
import { createRenewalRecord } from './credentials/renewal-record.ts'
import { credentialSource } from './credentials/source.ts'
import { openStateVolume } from './credentials/state-volume.ts'
import { openTrustStore } from './credentials/trust.ts'
import { judgeConnectedPeers } from './identify/connected-peers.ts'
import { unlessRevoked } from './identify/revoked.ts'
import { identifyPeers, tunnelTls } from './identify/tunnel-tls.ts'
import { createInbound } from './inbound.ts'
import { createObserver, refusalOf } from './observe/access-log.ts'
import { observeCertFiles } from './observe/cert-files.ts'
import type { Direction } from './observe/connection-record.ts'
import {
  observeControl,
  observeEndpoints,
  observeIssuance,
  observeRevoked,
  observeTrust,
} from './observe/events.ts'
import { createProxyMetrics, limitCounter, type ProxyMetrics } from './observe/metrics.ts'
import { outbound } from './outbound.ts'
import { createControlClient } from './resolve/control-client.ts'
import { createDirectory, type Directory } from './resolve/directory.ts'
import { keepAddresses, readAddresses } from './resolve/kept-addresses.ts'
import { createResolver } from './resolve/resolver.ts'
import { createServices } from './resolve/services.ts'
import { createTunnelDialer } from './tunnel/dialer.ts'
import { Held } from './tunnel/held.ts'
import type { TunnelTls } from './tunnel/interface.ts'
import { listenTunnel } from './tunnel/server.ts'

/** Where a sidecar listens. In a pod: pod-listeners.ts; elsewhere whatever the embedder chooses. */
export type Listeners = {
  outbound(handlers: CaptureHandlers): Promise<CaptureListener>
  inbound(handlers: CaptureHandlers): Promise<CaptureListener>
  readonly tunnel: { readonly host?: string; readonly port: number }
  readonly status: { readonly host?: string; readonly port: number }
  /** Where the machine has several addresses: the one that the injector knows this pod by. */
  readonly localAddress?: string
  /** The port of the peers’ tunnels. */
  readonly peerTunnelPort: number
}

export type CaptureHandlers = Pick<CaptureOptions, 'onConnection' | 'onRefused'>

export type ProxyParts = {
  readonly config: ProxyConfig
  readonly listeners: Listeners
  readonly log: Logger
  readonly clock: Clock
  readonly random: () => number
  readonly version: string
}

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
  { tls, trust, revoked, policy, state, directory, readiness }: Supply,
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
  const identify = unlessRevoked(identifyPeers(settings.trustDomain, trust, clock), revoked.get)

  const protocols = mapped(state, now => now?.protocols ?? NO_PROTOCOLS)
  const authorizer = stack.use(createAuthorizer(policy, protocols))
  const draining = new Ending()
  const inbound = createInbound({
    podIps,
    identity: config.identity,
    now: clock.monotonic,
    authorizer,
    observer,
    draining,
    answerStartupProbe: ({ stream }) =>
      answerStartupProbe(stream, settings.startupPath, () => isReady(readiness())),
  })
  const onLimit = limitCounter(metrics)
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
  const services = createServices({
    outbound: settings.outbound,
    now: clock.monotonic,
    random,
    observe: observeEndpoints(log, metrics),
  })
  const resolver = createResolver({ state, directory, services, outbound: settings.outbound })
  const shutdown = new Ending()
  const parts = { podIps, resolver, dialer, observer, metrics, shutdown }
  const outboundCapture = stack.use(
    await listeners.outbound({
      onConnection: connection => void outbound(connection, parts),
      onRefused: (error, peer) => refusedAtAccept('outbound')(error, peer?.address),
    }),
  )

  stack.use(
    judgeConnectedPeers(
      { inbound: tunnel, outbound: dialer },
      { trustDomain: settings.trustDomain, tls, trust, revoked, onRevoked: observeRevoked(log, metrics) },
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

/** What keeps the sidecar supplied, as Lives that the data path follows; each goes on with the last good value. */
type Supply = {
  readonly tls: Live<TunnelTls | undefined>
  readonly trust: Live<TrustBundle | undefined>
  readonly revoked: Live<RevocationCheck>
  readonly state: Live<State | undefined>
  readonly policy: Live<CompiledPolicy | undefined>
  readonly directory: Directory
  readonly readiness: () => Readiness
  readonly certificates: () => unknown
  /** Only rejects. */
  readonly failed: Promise<never>
}

async function startSupply(
  { config, listeners, log, clock, random, version }: ProxyParts,
  metrics: ProxyMetrics,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
): Promise<Supply> {
  const { settings, pod, identity } = config
  const { trustDomain } = settings
  const volume = openStateVolume(config.stateDir, error => log.error(failure(error, error.code), 'not kept'))
  const skew = clockSkew(clock, ms => metrics.clockSkew.set({}, ms / 1000))
  const kube = stack.use(connectKube({ ...config.api, onDate: skew.observe }))
  const trust = await openTrustStore(kube, trustDomain, volume, observeTrust(log))
  const onLimit = limitCounter(metrics)
  const directory = createDirectory(clock, await readAddresses(volume), () => onLimit('directory_addresses'))

  let refusal: Code | undefined
  const report = observeIssuance(log, metrics, clock)
  const renewal = createRenewalRecord(clock)
  const early = { order: live<Renewal | undefined>(undefined), revoked: live<string | undefined>(undefined) }
  const source = credentialSource({
    certificateSource: settings.certificateSource,
    certificateDir: config.certificateDir,
    kube,
    clock,
    random,
    identity,
    trust,
    volume,
    skew,
    early,
    podUid: pod.uid,
    username: `system:serviceaccount:${pod.namespace}:${pod.serviceAccount}`,
    signerName: settings.signerName,
    lifetimeSeconds: settings.certificateLifetimeSeconds,
    timeoutMs: CSR_TIMEOUT_MS,
    observe: event => {
      if (event.kind !== 'skewed') refusal = 'error' in event ? event.error.code : undefined
      renewal.observe(event)
      report(event)
    },
  })
  const credential = live<Credential | undefined>(undefined)
  const follow = async () => {
    for await (const next of source(signal)) credential.set(next)
  }

  const certFiles =
    settings.certFiles &&
    (await openCertFiles({
      dir: config.certFilesDir,
      hook: settings.certFiles.hook,
      credential,
      bundle: trust.bundle,
      volume,
      clock,
      random,
      observe: observeCertFiles(log, metrics),
    }))

  const reportControl = observeControl(log, metrics)
  const control = await createControlClient({
    address: settings.controlAddress,
    ...(listeners.localAddress && { localAddress: listeners.localAddress }),
    injectorIdentity: settings.injectorIdentity,
    hello: { podUid: pod.uid, version, features: KNOWN_FEATURES },
    credential,
    renewal: renewal.get,
    trust,
    alsoTrusted: certFiles && (() => certFiles.trusted()),
    directory,
    volume,
    clock,
    random,
    observe: event => {
      reportControl(event)
      if (event.kind !== 'lost' || event.error.code !== 'PSTN_CERT_REVOKED') return
      early.revoked.set(credential.get()?.serial)
    },
  })
  const followOrder = (state: State | undefined) => early.order.set(state?.renew)
  followOrder(control.state.get())
  control.state.subscribe(followOrder)

  const tls = derived([credential, trust.bundle], () => {
    const [own, bundle] = [credential.get(), trust.bundle.get()]
    return own && bundle && tunnelTls(own, bundle)
  })
  const revoked = derived([control.state], () =>
    revocationCheck(control.state.get()?.revoked ?? NOBODY_REVOKED),
  )
  const policy = derived([control.state], () => {
    const state = control.state.get()
    return state && compile(state.policy, { trustDomain })
  })
  let readiness = NEVER_READY
  const running = Promise.all([
    follow(),
    control.run(signal),
    keepAddresses({ directory, volume, clock, onLimit: () => onLimit('kept_addresses') }, signal),
    certFiles?.run(signal),
  ])
  return {
    tls,
    trust: trust.bundle,
    revoked,
    state: control.state,
    policy,
    directory,
    readiness: () => {
      const own = credential.get()
      const certificate = !own ? 'missing' : clock.now() < own.notAfter.getTime() ? 'valid' : 'expired'
      const facts = { certificate, refusal, trust: !!trust.bundle.get(), policy: !!policy.get() } as const
      readiness = nextReadiness(readiness, { ...facts, certFiles: !certFiles || !!certFiles.inForce.get() })
      return readiness
    },
    certificates: () => {
      const { key: _, ...shown } = credential.get() ?? { key: '' }
      return { own: shown, trust: trust.bundle.get(), files: certFiles?.inForce.get()?.directory }
    },
    failed: running.then(() => new Promise<never>(() => {})),
  }
}

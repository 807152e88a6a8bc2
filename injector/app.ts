// The injector's long-lived objects, made and joined in one place. Every replica admits pods and serves control streams;
// the leader alone approves, signs, publishes and tidies up.
import { setMaxListeners } from 'node:events'
import type { Clock } from '../shared/clock.ts'
import type { ClockSkew } from '../shared/clock-skew.ts'
import { unless } from '../shared/deadline.ts'
import type { Kube } from '../shared/kube/rest.ts'
import { type Live, live, until } from '../shared/live.ts'
import type { Logger } from '../shared/log.ts'
import { createRegistry, type Registry } from '../shared/metrics.ts'
import {
  FEDERATION_LABEL,
  INJECTOR_NAME,
  PARTNERS_CONFIGMAP,
  REVOCATIONS_CONFIGMAP,
  SYSTEM_NAMESPACE,
} from '../shared/names.ts'
import { type SpiffeId, workloadSpiffeId } from '../shared/spiffe-id.ts'
import type { KeyedChain } from '../shared/tls/contexts.ts'
import type { OwnTrust } from '../shared/trust-bundle.ts'
import { caReport } from './admin/ca.ts'
import { type AdminServer, serveAdmin } from './admin/server.ts'
import { serveStatus } from './admin/status-server.ts'
import { createBindings } from './bindings.ts'
import type { AuthorityKeeper } from './ca/keeper.ts'
import { openCa } from './ca/open.ts'
import { selfIssued } from './ca/self-issued.ts'
import { startCampaign } from './campaign.ts'
import { describeConfig, type InjectorConfig } from './config.ts'
import { createRenewalAlarm } from './control/renewal-alarm.ts'
import { createReports, type Reports } from './control/reports.ts'
import { type ControlServer, type ControlServerOptions, serveControl } from './control/server.ts'
import { sidecarMetrics } from './control/sidecar-metrics.ts'
import { createSidecars, type Sidecars } from './control/sidecars.ts'
import { tlsPortsMetric, tlsPortsReporter } from './control/tls-ports-report.ts'
import { createDirectory, type Directory } from './directory/directory.ts'
import { policyReporter, worldMetrics } from './directory/policy-report.ts'
import { protocolReporter } from './directory/protocol-report.ts'
import { servicesSelecting } from './directory/snapshot.ts'
import { type Watches, watchWorld } from './directory/watches.ts'
import { type BundleEndpoint, serveBundle } from './federation/endpoint.ts'
import { ownBundle } from './federation/own-bundle.ts'
import { type Federation, watchFederation } from './federation/watch.ts'
import { webCertificate } from './federation/web-certificate.ts'
import type { LeaseTiming } from './leader.ts'
import { whyNoPodCertificates } from './podcertificates/offered.ts'
import { revocationReporter } from './revocation/report.ts'
import { type Revocations, watchRevocations } from './revocation/watch.ts'
import { readableMs } from './signer/cleanup.ts'
import { createSigner, type SignerController } from './signer/controller.ts'
import { signerMetrics } from './signer/metrics.ts'
import { outsideRoots } from './trust/outside-roots.ts'
import { ownTrust } from './trust/own-trust.ts'
import { isApiServer } from './webhook/callers.ts'
import { eventRecorder } from './webhook/events.ts'
import { injectionReporter, reviewCounter } from './webhook/report.ts'
import { webhookRoutes } from './webhook/routes.ts'
import { serveWebhook } from './webhook/server.ts'

export type InjectorParts = {
  readonly config: InjectorConfig
  readonly kube: Kube
  readonly log: Logger
  readonly clock: Clock
  /** How far it is from the API server's; absent: nobody measures it. */
  readonly skew?: ClockSkew
  readonly random: () => number
  readonly version: string
  readonly timing?: { readonly lease: LeaseTiming; readonly drain: DrainTiming }
}

export type DrainTiming = {
  /** Not ready, but serving: until everybody has noticed. */
  readonly noticeMs: number
  /** Control streams end one by one over this time. */
  readonly spreadMs: number
}

export type Injector = AsyncDisposable & {
  readonly ports: Readonly<Record<'webhook' | 'control' | 'metrics' | 'admin', number>>
  /** Where our trust bundle is served, if it is. */
  readonly bundlePort: () => number | undefined
  readonly leading: Live<boolean>
  readonly control: ControlServer
  /** Leaves leadership, the Service and the sidecars in good order. */
  drain(): Promise<void>
}

const DRAIN: DrainTiming = { noticeMs: 3_000, spreadMs: 8_000 }
/** As /readyz says it. */
const REVOCATIONS = `who is revoked (ConfigMap ${REVOCATIONS_CONFIGMAP})`
const PARTNERS = `the partners (ConfigMap ${PARTNERS_CONFIGMAP} and those labelled ${FEDERATION_LABEL})`

/** Resolves when this replica is ready. Rejects if `signal` aborts first or the CA cannot be used. */
export async function startInjector(
  parts: InjectorParts,
  signal = new AbortController().signal,
): Promise<Injector> {
  const { config, log, clock } = parts
  log.info({ version: parts.version, config: describeConfig(config) }, 'starting')
  await using stack = new AsyncDisposableStack()
  const stopped = new AbortController()
  const stopping = AbortSignal.any([signal, stopped.signal])
  setMaxListeners(0, stopped.signal, stopping)
  stack.defer(() => stopped.abort())

  const registry = createRegistry()
  registry
    .gauge('postern_build_info', 'The version of this process.', ['version'])
    .set({ version: parts.version }, 1)
  const missing = live<readonly string[]>(['the CA', REVOCATIONS, PARTNERS, 'the cluster’s objects'])
  const have = (what: string) => missing.set(missing.get().filter(other => other !== what))
  const { listenAddress: host } = config
  const status = stack.use(await serveStatus({ host, port: config.metricsPort, registry, missing }))

  const others = await outsideRoots(config.trustRootsFile, { ...parts, registry, signal: stopped.signal })
  const context: Context = { ...parts, registry, signal: stopped.signal, leading: live(false), others }
  const ca = await openCa({ ...context, longestLeafMs: longestLeafMs(config) }, placeOf(context), stopping)
  void ca.follow(stopped.signal)
  const bindings = createBindings(context)
  const { directory, watches } = startDirectory(context)
  const federation = watchFederation({ ...context, trustDomain: config.trustDomain })
  const webhook = stack.use(await startWebhook(context, ca, bindings, directory, federation))
  have('the CA')

  const revocations = startRevocations(context)
  const mesh = await joinMesh(context, ca, directory)
  const admin = stack.use(await startAdmin(context, ca, mesh))
  const endpoint = stack.use(await startBundleEndpoint(context, ca, mesh))
  const signer = startSigner(context, ca, directory, revocations)
  const campaign = startCampaign(
    { ...context, longestLeafMs: longestLeafMs(config) },
    {
      ca,
      bindings,
      directory,
      watches,
      signer,
      revocations,
      federation,
      endpoint,
      ...mesh,
    },
  )
  stack.defer(() => campaign.end())
  await until(revocations.check, check => check !== undefined, stopping)
  have(REVOCATIONS)
  await until(federation.known, (known): known is true => known, stopping)
  have(PARTNERS)
  await unless(stopping, watches.synced)
  const control = stack.use(await startControl(context, { directory, revocations, federation }, mesh))
  have('the cluster’s objects')
  log.info('ready')

  const lifetime = stack.move()
  const { noticeMs, spreadMs } = parts.timing?.drain ?? DRAIN
  return {
    ports: { webhook: webhook.port, control: control.port, metrics: status.port, admin: admin.port },
    bundlePort: endpoint.port,
    leading: context.leading,
    control,
    drain: async () => {
      missing.set(['the end: draining'])
      await Promise.all([campaign.end(), clock.sleep(noticeMs, stopped.signal)])
      await control.drain(spreadMs)
    },
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

type Context = InjectorParts & {
  readonly registry: Registry
  /** Aborts when the injector is disposed of. */
  readonly signal: AbortSignal
  readonly leading: ReturnType<typeof live<boolean>>
  /** Roots of another signer (trustRootsFile). */
  readonly others: Live<readonly string[]>
}

const injectorIdentity = ({ config: { trustDomain } }: Context) =>
  workloadSpiffeId({ trustDomain, namespace: SYSTEM_NAMESPACE, serviceAccount: INJECTOR_NAME })

const placeOf = ({ config: { trustDomain } }: Context) => ({ namespace: SYSTEM_NAMESPACE, trustDomain })

const longestLeafMs = ({ maxLeafLifetimeSeconds, maxServingLifetimeSeconds }: InjectorConfig) =>
  Math.max(maxLeafLifetimeSeconds, maxServingLifetimeSeconds) * 1000

async function startWebhook(
  context: Context,
  ca: AuthorityKeeper,
  bindings: Bindings,
  { world }: Directory,
  { records }: Federation,
) {
  const { config, log, registry, version } = context
  const service = `${INJECTOR_NAME}.${SYSTEM_NAMESPACE}.svc`
  const serving = await selfIssued(ca.authority, { commonName: service, dnsNames: [service] }, context)
  const { trustDomain, signerName, controlAddress, sidecarImage: image, sidecarImagePullPolicy } = config
  const event = eventRecorder({ ...context, instance: config.replica })
  const routes = webhookRoutes(
    {
      settings: {
        mesh: { trustDomain, signerName, controlAddress, injectorIdentity: injectorIdentity(context) },
        sidecar: { image, imagePullPolicy: sidecarImagePullPolicy },
        version,
      },
      ensureBinding: bindings.ensure,
      whyNoPodCertificates: signal => whyNoPodCertificates(context.kube, config, signal),
      report: injectionReporter({ registry, log, event }),
    },
    { trustDomain, present: records.get, prefixes: () => world.prefixes.asked() },
  )
  return serveWebhook({
    host: config.listenAddress,
    port: config.webhookPort,
    serving,
    routes,
    isApiServer: isApiServer(world),
    onReview: reviewCounter(registry),
    log,
  })
}

function startDirectory(context: Context): { directory: Directory; watches: Watches } {
  const { config, registry, leading } = context
  const directory = createDirectory({
    ...context,
    settings: {
      trustDomain: config.trustDomain,
      systemNamespace: SYSTEM_NAMESPACE,
      meshMode: config.defaultInboundMode,
      defaultAction: config.defaultAction,
      prefixes: config.prefixes,
    },
    onPolicy: policyReporter({ ...context, leads: () => leading.get() }),
  })
  const { world } = directory
  directory.subscribe(protocolReporter({ ...context, world, leads: () => leading.get() }))
  worldMetrics(registry, world)
  return { directory, watches: watchWorld(directory, context) }
}

function startRevocations(context: Context): Revocations {
  const { leading } = context
  return watchRevocations({
    ...context,
    injectorIdentity: injectorIdentity(context),
    onRecord: revocationReporter({ ...context, leads: () => leading.get() }),
  })
}

function startSigner(
  context: Context,
  ca: AuthorityKeeper,
  { world, subscribe }: Directory,
  { check: revoked }: Revocations,
): SignerController {
  const { trustDomain, signerName, clusterDomain, maxLeafLifetimeSeconds, maxServingLifetimeSeconds } =
    context.config
  const signer = createSigner({
    ...context,
    authority: ca.authority,
    settings: {
      trustDomain,
      signerName,
      clusterDomain,
      maxLeafLifetimeSeconds,
      maxServingLifetimeSeconds,
      cleanupAfterMs: readableMs(maxLeafLifetimeSeconds),
    },
    observer: signerMetrics(context.registry),
    revoked,
    servicesOf: ({ metadata }) => servicesSelecting(world, metadata?.namespace ?? '', metadata?.labels ?? {}),
  })
  subscribe(({ pods }) => {
    for (const uid of pods) if (!world.pods.has(uid)) signer.podDeleted(uid)
  })
  return signer
}

/** What this replica is to sidecars and to the other replicas. */
type Mesh = {
  readonly identity: SpiffeId
  readonly svid: Live<KeyedChain>
  readonly trust: Live<OwnTrust>
  readonly sidecars: Sidecars
  readonly reports: Reports
}

async function joinMesh(context: Context, ca: AuthorityKeeper, directory: Directory): Promise<Mesh> {
  const { config, registry, clock } = context
  const { replica } = config
  const identity = injectorIdentity(context)
  const svid = await selfIssued(ca.authority, { uri: identity, dnsNames: [] }, context)
  const trust = ownTrust(config.trustDomain, ca.stored, context.others)
  const alarm = createRenewalAlarm({ ...context, world: directory.world })
  const sidecars = createSidecars({
    ...context,
    replica,
    directory,
    onReport: alarm.hear,
    onTlsPortsClosed: tlsPortsReporter(context),
  })
  sidecarMetrics(registry, sidecars, clock)
  tlsPortsMetric(registry, sidecars)
  const reports = createReports({
    ...context,
    replica,
    world: directory.world,
    identity,
    svid,
    trust,
    sidecars,
  })
  void alarm.follow(reports, context.signal)
  return { identity, svid, trust, sidecars, reports }
}

const startAdmin = ({ config, log }: Context, ca: AuthorityKeeper, { reports }: Mesh): Promise<AdminServer> =>
  serveAdmin({
    port: config.adminPort,
    answers: { '/sidecars': reports.gather, '/ca': async () => caReport(ca.authority.get()) },
    log,
  })

function startControl(
  context: Context,
  told: Pick<ControlServerOptions, 'directory' | 'revocations' | 'federation'>,
  mesh: Mesh,
): Promise<ControlServer> {
  const { config } = context
  return serveControl({ ...context, ...mesh, ...told, host: config.listenAddress, port: config.controlPort })
}

async function startBundleEndpoint(
  context: Context,
  { stored }: AuthorityKeeper,
  { trust }: Mesh,
): Promise<BundleEndpoint> {
  const { config, others, log } = context
  const certificate = await webCertificate(config.bundleCertificateDir, context)
  const bundle = ownBundle(trust, stored, others, config.bundleRefreshHintSeconds)
  return serveBundle({ host: config.listenAddress, port: config.bundlePort, bundle, certificate, log })
}

type Bindings = ReturnType<typeof createBindings>

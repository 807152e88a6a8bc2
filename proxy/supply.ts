// What keeps the sidecar supplied: certificate, trust bundle, control stream, and what follows from them. The data path
// follows each as a Live and goes on with the last good value; app.ts joins the two.

import { clockSkew } from '../shared/clock-skew.ts'
import { KNOWN_FEATURES, type State } from '../shared/control/messages.ts'
import type { Code } from '../shared/errors.ts'
import type { Partners } from '../shared/federation/partners.ts'
import { connectKube } from '../shared/kube/rest.ts'
import { derived, type Live, live } from '../shared/live.ts'
import { failure } from '../shared/log.ts'
import { type CompiledPolicy, compile } from '../shared/policy/compile.ts'
import type { Renewal } from '../shared/renewal-order.ts'
import { NOBODY_REVOKED, type RevocationCheck, revocationCheck } from '../shared/revocation.ts'
import type { TrustBundle } from '../shared/trust-bundle.ts'
import { NEVER_READY, nextReadiness, type Readiness } from './admin/readiness.ts'
import { openCertFiles } from './cert-files/keeper.ts'
import type { Credential } from './credentials/credential.ts'
import { CSR_TIMEOUT_MS } from './credentials/csr-source.ts'
import { createRenewalRecord } from './credentials/renewal-record.ts'
import { credentialSource } from './credentials/source.ts'
import { openStateVolume } from './credentials/state-volume.ts'
import { openTrustStore } from './credentials/trust.ts'
import { describeBundle, partnersIn } from './identify/partners.ts'
import { tunnelTls } from './identify/tunnel-tls.ts'
import { observeCertFiles } from './observe/cert-files.ts'
import { observeControl, observeIssuance, observeTrust } from './observe/events.ts'
import { limitCounter, type ProxyMetrics } from './observe/metrics.ts'
import type { ProxyParts } from './parts.ts'
import { createControlClient } from './resolve/control-client.ts'
import { createDirectory, type Directory } from './resolve/directory.ts'
import { keepAddresses, readAddresses } from './resolve/kept-addresses.ts'
import type { TunnelTls } from './tunnel/interface.ts'

export type Supply = {
  readonly tls: Live<TunnelTls | undefined>
  readonly trust: Live<TrustBundle | undefined>
  readonly vouching: Live<readonly string[]>
  readonly partners: Live<Partners>
  readonly revoked: Live<RevocationCheck>
  readonly state: Live<State | undefined>
  readonly policy: Live<CompiledPolicy | undefined>
  readonly directory: Directory
  readonly readiness: () => Readiness
  readonly certificates: () => unknown
  /** Only rejects. */
  readonly failed: Promise<never>
}

export async function startSupply(
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

  const partners = partnersIn(control.state, trustDomain)
  const tls = derived([credential, trust.bundle, partners], () => {
    const [own, bundle] = [credential.get(), trust.bundle.get()]
    return own && bundle && tunnelTls(own, bundle, partners.get().bundles)
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
    vouching: trust.vouching,
    partners,
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
      const foreign = partners.get().bundles.map(describeBundle)
      const files = certFiles?.inForce.get()?.directory
      return { own: shown, trust: trust.bundle.get(), partners: foreign, files }
    },
    failed: running.then(() => new Promise<never>(() => {})),
  }
}

// What the leader does, and the race for being it: a part of app.ts, which builds all that is given here.
import { randomUUID } from 'node:crypto'
import type { Clock } from '../shared/clock.ts'
import type { ClockSkew } from '../shared/clock-skew.ts'
import { unless } from '../shared/deadline.ts'
import type { Kube } from '../shared/kube/rest.ts'
import { type Live, mapped, type Settable } from '../shared/live.ts'
import type { Logger } from '../shared/log.ts'
import type { Registry } from '../shared/metrics.ts'
import { LEADER_LEASE, SYSTEM_NAMESPACE } from '../shared/names.ts'
import type { OwnTrust } from '../shared/trust-bundle.ts'
import type { createBindings } from './bindings.ts'
import type { AuthorityKeeper } from './ca/keeper.ts'
import { createRotator } from './ca/rotator.ts'
import type { InjectorConfig } from './config.ts'
import type { Reports } from './control/reports.ts'
import type { Directory } from './directory/directory.ts'
import type { Watches } from './directory/watches.ts'
import type { BundleEndpoint } from './federation/endpoint.ts'
import { partnersSettleMs } from './federation/own-bundle.ts'
import { refreshPartners } from './federation/refresh.ts'
import { reportFederation } from './federation/report.ts'
import type { Federation } from './federation/watch.ts'
import { LEASE_TIMING, type LeaseTiming, lead } from './leader.ts'
import type { Revocations } from './revocation/watch.ts'
import type { SignerController } from './signer/controller.ts'
import { behindGauge, keepClusterTrustBundle } from './trust/cluster-trust-bundle.ts'
import { publishTrust } from './trust/publisher.ts'
import { keepCaBundle } from './webhook/ca-bundle.ts'

export type LeaderContext = {
  readonly config: InjectorConfig
  readonly kube: Kube
  readonly log: Logger
  readonly clock: Clock
  readonly skew?: ClockSkew
  readonly random: () => number
  readonly registry: Registry
  /** Aborts when the injector is disposed of. */
  readonly signal: AbortSignal
  readonly leading: Settable<boolean>
  /** The longest that the signer lets a certificate live. */
  readonly longestLeafMs: number
  readonly timing?: { readonly lease: LeaseTiming }
}

export type LeaderParts = {
  readonly ca: AuthorityKeeper
  readonly bindings: ReturnType<typeof createBindings>
  readonly directory: Directory
  readonly watches: Watches
  readonly signer: SignerController
  readonly revocations: Revocations
  readonly federation: Federation
  readonly endpoint: BundleEndpoint
  readonly reports: Reports
  readonly trust: Live<OwnTrust>
}

export function startCampaign(context: LeaderContext, parts: LeaderParts) {
  const { ca, bindings, directory, watches, signer, revocations, federation, endpoint, reports, trust } =
    parts
  const { kube, config, leading, timing } = context
  context.registry.gauge('postern_leader', '1 on the replica that leads.', [], gauge =>
    gauge.set({}, leading.get() ? 1 : 0),
  )
  const behind = behindGauge(context.registry)
  const rotator = createRotator({
    ...context,
    place: { namespace: SYSTEM_NAMESPACE, trustDomain: config.trustDomain },
    keeper: ca,
    reports,
    world: directory.world,
    revoked: revocations.check,
    longestLeafMs: context.longestLeafMs,
    settleMs: () =>
      endpoint.port() === undefined ? undefined : partnersSettleMs(config.bundleRefreshHintSeconds),
  })
  const told = reportFederation({ ...context, leads: () => leading.get() }, federation)
  const onLeading = async (signal: AbortSignal): Promise<void> => {
    leading.set(true)
    signal.addEventListener('abort', () => leading.set(false), { once: true })
    await ca.catchUp(signal)
    await Promise.all([
      signer.run(signal),
      publishTrust({ ...context, bundle: trust }, signal),
      keepClusterTrustBundle({ ...context, bundle: trust, behind }, signal),
      keepCaBundle({ ...context, roots: mapped(ca.authority, ({ roots }) => roots) }, signal),
      ca.renew(signal),
      refreshPartners({ ...context, federation, trust, told }, signal),
      // Without all pods a rotation would not wait for every one, and every namespace would look unused. They may never
      // come: leading must end all the same.
      unless(signal, watches.synced).then(
        () => Promise.all([rotator.run(signal), bindings.reconcile(directory.world, signal)]),
        () => undefined,
      ),
    ])
  }
  const end = new AbortController()
  const options = {
    ...context,
    namespace: SYSTEM_NAMESPACE,
    name: LEADER_LEASE,
    identity: `${config.replica}_${randomUUID()}`,
    onLeading,
    timing: timing?.lease ?? LEASE_TIMING,
  }
  const ended = lead(kube, options, end.signal)
  return {
    /** Also gives the lease back. */
    end: async () => {
      end.abort()
      await ended
    },
  }
}

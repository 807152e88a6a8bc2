// Publishes whom the mesh trusts as a ClusterTrustBundle, beside the ConfigMap, where the API server has that API. It is
// looked for at each check, since an upgrade of the API server may bring it. Without it, and without the right to write it
// (manifests of an older version), sidecars read the ConfigMap.
import type { Clock } from '../../shared/clock.ts'
import {
  CLUSTER_TRUST_BUNDLE_VERSIONS,
  type ClusterTrustBundle,
  type ClusterTrustBundleVersion,
  clusterTrustBundlePath,
  clusterTrustBundles,
} from '../../shared/cluster-trust-bundle.ts'
import { writeFormer } from '../../shared/former-roots.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { CLUSTER_TRUST_BUNDLE, DOMAIN, TRUST_DOMAIN_ANNOTATION, WORKLOAD_SIGNER } from '../../shared/names.ts'
import type { OwnTrust } from '../../shared/trust-bundle.ts'
import { servedVersion, unlessMissing } from '../kube/discovery.ts'
import { keep } from '../kube/keep.ts'

const CLUSTER_TRUST_BUNDLES = {
  group: 'certificates.k8s.io',
  resource: 'clustertrustbundles',
  versions: CLUSTER_TRUST_BUNDLE_VERSIONS,
} as const

/** The object as it should be, or undefined where `present` is that already. */
export function wantedClusterTrustBundle(
  { trustDomain, roots, former }: OwnTrust,
  version: ClusterTrustBundleVersion,
  present?: ClusterTrustBundle,
): ClusterTrustBundle | undefined {
  // The API server refuses a root that stands there twice.
  const trustBundle = [...new Set(roots)].join('')
  const annotations = present?.metadata.annotations
  const own: Record<string, string> = {
    [TRUST_DOMAIN_ANNOTATION]: trustDomain,
    ...(former && writeFormer(former, `${DOMAIN}/`)),
  }
  const isAnnotated = Object.entries(own).every(([key, text]) => annotations?.[key] === text)
  if (present?.spec.trustBundle === trustBundle && isAnnotated) return undefined
  return {
    apiVersion: `certificates.k8s.io/${version}`,
    kind: 'ClusterTrustBundle',
    metadata: {
      ...present?.metadata,
      name: CLUSTER_TRUST_BUNDLE,
      annotations: { ...annotations, ...own },
    },
    spec: { signerName: WORKLOAD_SIGNER, trustBundle },
  }
}

export type ClusterTrustBundleKeeper = {
  readonly kube: Kube
  readonly bundle: Live<OwnTrust>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  /** Of this replica, whether it leads or not: 1 while the object is there to be written and cannot be. */
  readonly behind: (behind: boolean) => void
}

export const behindGauge = (registry: Registry): ClusterTrustBundleKeeper['behind'] => {
  const gauge = registry.gauge(
    'postern_cluster_trust_bundle_behind',
    '1 on the leader while it cannot make the ClusterTrustBundle equal to the CA’s roots. The ConfigMap is not concerned.',
  )
  gauge.set({}, 0)
  return behind => gauge.set({}, behind ? 1 : 0)
}

/** Runs until aborted: at once, after each change of the bundle, and every half minute. */
export async function keepClusterTrustBundle(
  keeper: ClusterTrustBundleKeeper,
  signal: AbortSignal,
): Promise<void> {
  const { log, behind } = keeper
  let told = ''
  const step = async () => {
    try {
      await publish(keeper, signal)
      if (told !== '') log.info('ClusterTrustBundle is in order again')
      told = ''
      behind(false)
      return true
    } catch (thrown) {
      if (signal.aborted) return false
      behind(true)
      const said = failure(thrown, 'PSTN_API_UNAVAILABLE')
      // A missing right stays missing: a line each quarter of a minute would tell nothing more.
      if (said.error !== told) log.warn(said, 'ClusterTrustBundle not published')
      told = said.error
      return false
    }
  }
  await keep({ ...keeper, follows: keeper.bundle }, step, signal)
  behind(false)
}

async function publish({ kube, bundle, log }: ClusterTrustBundleKeeper, signal: AbortSignal): Promise<void> {
  const version = await servedVersion(kube, CLUSTER_TRUST_BUNDLES, signal)
  if (!version) return
  const path = clusterTrustBundlePath(version)
  const present = await unlessMissing(kube.get<ClusterTrustBundle>(path, signal))
  const wanted = wantedClusterTrustBundle(bundle.get(), version, present)
  if (!wanted) return
  if (present) await kube.replace(path, wanted, signal)
  else await kube.create(clusterTrustBundles(version), wanted, signal)
  log.info({ roots: bundle.get().roots.length, version }, 'ClusterTrustBundle published')
}

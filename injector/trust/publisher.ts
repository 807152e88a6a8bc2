// Publishes whom the mesh trusts where every sidecar may read it at first contact: one ConfigMap in the injector's
// namespace. The leader keeps it equal to the authority's roots, whoever edits or deletes it.
import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../../shared/clock.ts'
import { writeFormer } from '../../shared/former-roots.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import type { OwnTrust } from '../../shared/trust-bundle.ts'
import { keep } from '../kube/keep.ts'

export type TrustConfigMap = {
  readonly apiVersion: 'v1'
  readonly kind: 'ConfigMap'
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion?: string }
  readonly data?: Readonly<Record<string, string>>
}

/** The ConfigMap as it should be, or undefined where `present` is that already. */
export function wantedTrust(bundle: OwnTrust, present?: TrustConfigMap): TrustConfigMap | undefined {
  const { trustDomain, roots, former } = bundle
  const data: Record<string, string> = {
    'trust-domain': trustDomain,
    'roots.pem': roots.join(''),
    ...(former && writeFormer(former)),
  }
  const { data: held = {}, metadata } = present ?? {}
  if (isDeepStrictEqual(held, data)) return undefined
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { ...metadata, name: TRUST_CONFIGMAP, namespace: SYSTEM_NAMESPACE },
    data,
  }
}

export type TrustPublisher = {
  readonly kube: Kube
  readonly bundle: Live<OwnTrust>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
}

const COLLECTION = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`

/** Runs until aborted: at once, after each change of the bundle, and every half minute. */
export function publishTrust(publisher: TrustPublisher, signal: AbortSignal): Promise<void> {
  const step = async () => {
    try {
      await publish(publisher, signal)
      return true
    } catch (thrown) {
      if (!signal.aborted)
        publisher.log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'trust bundle not published')
      return false
    }
  }
  return keep({ ...publisher, follows: publisher.bundle }, step, signal)
}

async function publish({ kube, bundle, log }: TrustPublisher, signal: AbortSignal): Promise<void> {
  const path = `${COLLECTION}/${TRUST_CONFIGMAP}`
  const present = await kube.get<TrustConfigMap>(path, signal).catch((thrown: unknown) => {
    if (isKubeError(thrown, 404)) return undefined
    throw thrown
  })
  const wanted = wantedTrust(bundle.get(), present)
  if (!wanted) return
  if (present) await kube.replace(path, wanted, signal)
  else await kube.create(COLLECTION, wanted, signal)
  log.info({ roots: bundle.get().roots.length }, 'trust bundle published')
}

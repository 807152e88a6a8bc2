// Where a sidecar finds whom to trust: the ClusterTrustBundle if the API server has one of ours, else the ConfigMap. The
// leader keeps them equal. They may differ all the same, for a moment while it writes both, or for long if it may not write
// the one or is of a version that knows only the other: what is in force then decides which of them is behind.
import {
  CLUSTER_TRUST_BUNDLE_VERSIONS,
  type ClusterTrustBundle,
  type ClusterTrustBundleVersion,
  clusterTrustBundlePath,
} from '../../shared/cluster-trust-bundle.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { readFormer } from '../../shared/former-roots.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import {
  CLUSTER_TRUST_BUNDLE,
  DOMAIN,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
  TRUST_DOMAIN_ANNOTATION,
} from '../../shared/names.ts'
import { type OwnTrust, splitPem, type TrustBundle } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'

export type PublishedTrust = {
  /** What is published now. @throws PosternError PSTN_API_UNAVAILABLE or PSTN_TRUST_INVALID */
  read(signal: AbortSignal, present: InForce): Promise<OwnTrust>
}

export type InForce = {
  readonly bundle: TrustBundle | undefined
  /** It has just failed to verify the injector. */
  readonly doubted: boolean
}

/**
 * Which of two that differ counts. `outdated`: what the ClusterTrustBundle held when it was last found to be behind.
 * One that holds what the other knows to be revoked is behind it. The one that is in force has been confirmed by the control
 * stream, or has just failed there.
 */
export function choose(
  clusterTrustBundle: OwnTrust,
  configMap: OwnTrust,
  { bundle, doubted }: InForce,
  outdated?: TrustBundle,
): 'ClusterTrustBundle' | 'ConfigMap' {
  if (isRevoked(clusterTrustBundle, configMap)) return 'ConfigMap'
  if (isRevoked(configMap, clusterTrustBundle)) return 'ClusterTrustBundle'
  if (sameRoots(bundle, configMap)) return doubted ? 'ClusterTrustBundle' : 'ConfigMap'
  if (sameRoots(bundle, clusterTrustBundle)) return doubted ? 'ConfigMap' : 'ClusterTrustBundle'
  return sameRoots(outdated, clusterTrustBundle) ? 'ConfigMap' : 'ClusterTrustBundle'
}

const isRevoked = ({ roots }: TrustBundle, { former }: OwnTrust): boolean =>
  roots.some(root => former?.revoked.includes(parseCertificate(root).fingerprint256))

/** Why the ClusterTrustBundle cannot be used, or that it differs from the ConfigMap. */
export type PassedOver = (error: PosternError) => void

export function publishedTrust(
  kube: Pick<Kube, 'get'>,
  trustDomain: string,
  passedOver: PassedOver,
): PublishedTrust {
  /** What was not there at first contact is not looked for at each renewal. */
  let served: ClusterTrustBundleVersion | 'none' | undefined
  /** A ClusterTrustBundle that is behind the ConfigMap. */
  let outdated: TrustBundle | undefined
  let told = ''
  const passOver = (error: PosternError) => {
    if (error.message !== told) passedOver(error)
    told = error.message
  }

  const find = async (signal: AbortSignal): Promise<ClusterTrustBundle | undefined> => {
    if (served === 'none') return undefined
    for (const version of served ? [served] : CLUSTER_TRUST_BUNDLE_VERSIONS) {
      const object = await getIfAny<ClusterTrustBundle>(kube, clusterTrustBundlePath(version), signal)
      if (!object) continue
      served = version
      return object
    }
    // One that was there has been deleted, or its version is served no more: the next time tells.
    served = served ? undefined : 'none'
    return undefined
  }

  const readBundle = async (signal: AbortSignal): Promise<OwnTrust | undefined> => {
    const { metadata, spec } = (await find(signal)) ?? {}
    if (!spec) return undefined
    const named = metadata?.annotations?.[TRUST_DOMAIN_ANNOTATION] ?? ''
    try {
      const bundle = checkedBundle({ trustDomain: named, roots: splitPem(spec.trustBundle) }, trustDomain)
      return withFormer(bundle, readFormer(metadata?.annotations, `${DOMAIN}/`))
    } catch (thrown) {
      const { message } = asPosternError(thrown, 'PSTN_TRUST_INVALID')
      passOver(invalid(`ClusterTrustBundle ${CLUSTER_TRUST_BUNDLE}: ${message}`))
      return undefined
    }
  }

  const readConfigMap = async (signal: AbortSignal): Promise<OwnTrust> => {
    const { data = {} } = await kube.get<ConfigMap>(CONFIGMAP_PATH, signal).catch(unavailable)
    const roots = splitPem(data['roots.pem'] ?? '')
    const bundle = checkedBundle({ trustDomain: data['trust-domain'] ?? '', roots }, trustDomain)
    return withFormer(bundle, readFormer(data))
  }

  return {
    read: async (signal, present) => {
      const bundle = await readBundle(signal)
      if (!bundle) return readConfigMap(signal)
      const other = await readConfigMap(signal).catch(() => bundle)
      if (sameRoots(other, bundle)) {
        told = ''
        return bundle
      }
      passOver(invalid(DIFFER))
      if (choose(bundle, other, present, outdated) === 'ClusterTrustBundle') return bundle
      outdated = bundle
      return other
    },
  }
}

const withFormer = (bundle: TrustBundle, former: OwnTrust['former']): OwnTrust =>
  former ? { ...bundle, former } : bundle

type ConfigMap = { readonly data?: Readonly<Record<string, string>> }
const CONFIGMAP_PATH = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${TRUST_CONFIGMAP}`
const DIFFER = `ClusterTrustBundle ${CLUSTER_TRUST_BUNDLE} and ConfigMap ${TRUST_CONFIGMAP} differ`

/** Without the API nobody has been granted it: 403 is how most are told that there is nothing. */
const getIfAny = <T>(kube: Pick<Kube, 'get'>, path: string, signal: AbortSignal): Promise<T | undefined> =>
  kube.get<T>(path, signal).catch(thrown => {
    if (isKubeError(thrown, 404) || isKubeError(thrown, 403)) return undefined
    return unavailable(thrown)
  })

function unavailable(thrown: unknown): never {
  const { message } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
  throw new PosternError('PSTN_API_UNAVAILABLE', `the trust bundle: ${message}`, { cause: thrown })
}

/**
 * The bundle with each root once. An empty bundle of our own domain is a mistake, not a wish to trust nobody.
 * @throws PosternError PSTN_TRUST_INVALID
 */
export function checkedBundle({ trustDomain, roots }: TrustBundle, expected: string): TrustBundle {
  if (trustDomain !== expected) {
    throw invalid(`it is for the trust domain ${JSON.stringify(trustDomain)}, not ${expected}`)
  }
  if (roots.length === 0) throw invalid('it holds no root')
  return { trustDomain, roots: [...new Set(roots.map(rootPem))] }
}

function rootPem(text: string): string {
  try {
    const { isCa, serial, pem } = parseCertificate(text)
    if (isCa) return pem
    throw invalid(`certificate ${serial} is no CA certificate`)
  } catch (thrown) {
    throw asPosternError(thrown, 'PSTN_TRUST_INVALID')
  }
}

export const invalid = (why: string): PosternError => new PosternError('PSTN_TRUST_INVALID', why)

/** Bundles are sets: a ClusterTrustBundle may come in any order. */
export const sameRoots = (a: TrustBundle | undefined, b: TrustBundle): boolean =>
  a !== undefined && a.roots.length === b.roots.length && b.roots.every(root => a.roots.includes(root))

// Where roots are published: what sidecars read at first contact, and what the API server trusts our webhook with. Read back
// from the API server: a publisher that cannot write holds a rotation up, and a revoked root is gone only when it is out.
import type { LingeringRoot } from '../../shared/ca/status.ts'
import {
  CLUSTER_TRUST_BUNDLE_VERSIONS,
  type ClusterTrustBundle,
  clusterTrustBundlePath,
} from '../../shared/cluster-trust-bundle.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { CLUSTER_TRUST_BUNDLE, INJECTOR_NAME, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { fingerprintOf } from './rotation.ts'

type ConfigMap = { readonly data?: Readonly<Record<string, string>> }
type Webhooks = { readonly webhooks?: readonly { readonly clientConfig: { readonly caBundle?: string } }[] }

/** An object that tells somebody whom to trust, with the fingerprints of the roots that it holds. */
type Publication = { readonly object: string; readonly roots: readonly string[] }

/** Why the root is not published yet, a line each. @throws KubeError */
export async function unpublished(
  kube: Kube,
  namespace: string,
  fingerprint: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const lacking = (await publications(kube, namespace, signal))
    .filter(({ roots }) => !roots.includes(fingerprint))
    .map(({ object }) => `${object} lacks the next root`)
  return [...new Set(lacking)]
}

/** Which of these roots are published still. @throws KubeError */
export async function stillPublished(
  kube: Kube,
  namespace: string,
  fingerprints: readonly string[],
  signal: AbortSignal,
): Promise<readonly LingeringRoot[]> {
  if (fingerprints.length === 0) return []
  const published = await publications(kube, namespace, signal)
  return fingerprints.flatMap(fingerprint => {
    const holding = published.filter(({ roots }) => roots.includes(fingerprint))
    return [...new Set(holding.map(({ object }) => object))].map(where => ({ fingerprint, where }))
  })
}

async function publications(kube: Kube, namespace: string, signal: AbortSignal): Promise<Publication[]> {
  return [
    await trustConfigMap(kube, namespace, signal),
    ...(await clusterTrustBundles(kube, signal)),
    ...(await webhooks(kube, signal)),
  ]
}

async function trustConfigMap(kube: Kube, namespace: string, signal: AbortSignal): Promise<Publication> {
  const path = `/api/v1/namespaces/${namespace}/configmaps/${TRUST_CONFIGMAP}`
  const trust = await kube.get<ConfigMap>(path, signal).catch(absent)
  return { object: `ConfigMap ${TRUST_CONFIGMAP}`, roots: rootsIn(trust?.data?.['roots.pem'] ?? '') }
}

/** Sidecars read it before the ConfigMap, where there is one. */
async function clusterTrustBundles(kube: Kube, signal: AbortSignal): Promise<Publication[]> {
  const found: Publication[] = []
  for (const version of CLUSTER_TRUST_BUNDLE_VERSIONS) {
    const bundle = await kube.get<ClusterTrustBundle>(clusterTrustBundlePath(version), signal).catch(absent)
    if (!bundle) continue
    const object = `ClusterTrustBundle ${CLUSTER_TRUST_BUNDLE}`
    found.push({ object, roots: rootsIn(bundle.spec.trustBundle) })
  }
  return found
}

async function webhooks(kube: Kube, signal: AbortSignal): Promise<Publication[]> {
  const found: Publication[] = []
  for (const kind of ['mutating', 'validating'] as const) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind}webhookconfigurations/${INJECTOR_NAME}`
    // One that is not installed calls nobody.
    const { webhooks = [] } = (await kube.get<Webhooks>(path, signal).catch(absent)) ?? {}
    for (const { clientConfig } of webhooks) {
      const roots = rootsIn(Buffer.from(clientConfig.caBundle ?? '', 'base64').toString('utf8'))
      found.push({ object: `the ${kind} webhook configuration ${INJECTOR_NAME}`, roots })
    }
  }
  return found
}

/** What is no certificate is not one that anybody trusts. */
function rootsIn(text: string): readonly string[] {
  try {
    return splitPem(text).map(fingerprintOf)
  } catch {
    return []
  }
}

function absent(error: unknown): undefined {
  if (!isKubeError(error, 404)) throw error
}

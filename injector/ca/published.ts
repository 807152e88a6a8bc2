// Where a root must be published before it may sign: what sidecars read at first contact, and what the API server trusts
// our webhook with. Read back from the API server, so that a publisher that cannot write holds the rotation up.
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

/** Why the root is not published yet, a line each. @throws KubeError */
export async function unpublished(
  kube: Kube,
  namespace: string,
  fingerprint: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const lacking = [
    await trustLacks(kube, namespace, fingerprint, signal),
    ...(await bundlesThatLack(kube, fingerprint, signal)),
    ...(await webhooksThatLack(kube, fingerprint, signal)),
  ]
  return lacking.flatMap(object => (object ? [`${object} lacks the next root`] : []))
}

async function trustLacks(kube: Kube, namespace: string, fingerprint: string, signal: AbortSignal) {
  const path = `/api/v1/namespaces/${namespace}/configmaps/${TRUST_CONFIGMAP}`
  const trust = await kube.get<ConfigMap>(path, signal).catch(absent)
  return holds(trust?.data?.['roots.pem'] ?? '', fingerprint) ? undefined : `ConfigMap ${TRUST_CONFIGMAP}`
}

/** Sidecars read it before the ConfigMap, where there is one. */
async function bundlesThatLack(kube: Kube, fingerprint: string, signal: AbortSignal): Promise<string[]> {
  const lacking: string[] = []
  for (const version of CLUSTER_TRUST_BUNDLE_VERSIONS) {
    const found = await kube.get<ClusterTrustBundle>(clusterTrustBundlePath(version), signal).catch(absent)
    if (found && !holds(found.spec.trustBundle, fingerprint))
      lacking.push(`ClusterTrustBundle ${CLUSTER_TRUST_BUNDLE}`)
  }
  return [...new Set(lacking)]
}

async function webhooksThatLack(kube: Kube, fingerprint: string, signal: AbortSignal): Promise<string[]> {
  const lacking: string[] = []
  for (const kind of ['mutating', 'validating'] as const) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind}webhookconfigurations/${INJECTOR_NAME}`
    // One that is not installed calls nobody.
    const { webhooks = [] } = (await kube.get<Webhooks>(path, signal).catch(absent)) ?? {}
    const trusting = webhooks.every(({ clientConfig: { caBundle = '' } }) =>
      holds(Buffer.from(caBundle, 'base64').toString('utf8'), fingerprint),
    )
    if (!trusting) lacking.push(`the ${kind} webhook configuration ${INJECTOR_NAME}`)
  }
  return lacking
}

function holds(pem: string, fingerprint: string): boolean {
  try {
    return splitPem(pem).some(root => fingerprintOf(root) === fingerprint)
  } catch {
    return false
  }
}

function absent(error: unknown): undefined {
  if (!isKubeError(error, 404)) throw error
}

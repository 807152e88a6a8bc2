// Where a root must be published before it may sign: what sidecars read at first contact, and what the API server trusts
// our webhook with. Read back from the API server, so that a publisher that cannot write holds the rotation up.
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { INJECTOR_NAME, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { fingerprintOf } from './rotation.ts'

type ConfigMap = { readonly data?: Readonly<Record<string, string>> }
type Webhooks = { readonly webhooks?: readonly { readonly clientConfig: { readonly caBundle?: string } }[] }

/** The objects, by name, that lack the root. @throws KubeError */
export async function unpublished(
  kube: Kube,
  namespace: string,
  fingerprint: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const read = <T>(path: string) => kube.get<T>(path, signal).catch(absent)
  const trust = await read<ConfigMap>(`/api/v1/namespaces/${namespace}/configmaps/${TRUST_CONFIGMAP}`)
  const lacking = holds(trust?.data?.['roots.pem'] ?? '', fingerprint) ? [] : [`ConfigMap ${TRUST_CONFIGMAP}`]
  for (const kind of ['mutating', 'validating'] as const) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind}webhookconfigurations/${INJECTOR_NAME}`
    // One that is not installed calls nobody.
    const { webhooks = [] } = (await read<Webhooks>(path)) ?? {}
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

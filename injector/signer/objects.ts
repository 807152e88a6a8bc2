// The calls to the API server that the approver and signer make, one function each.
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { type ConditionType, isAnswered } from './request.ts'

export const CSR_PATH = '/apis/certificates.k8s.io/v1/certificatesigningrequests'

export type Condition = { readonly type: ConditionType; readonly reason: string; readonly message: string }

const pathOf = ({ metadata }: V1CertificateSigningRequest): string =>
  `${CSR_PATH}/${encodeURIComponent(metadata?.name ?? '')}`

/** Undefined when there is none. */
async function orNone<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (isKubeError(error, 404)) return undefined
    throw error
  }
}

export const getRequest = (kube: Kube, name: string, signal: AbortSignal) =>
  orNone(kube.get<V1CertificateSigningRequest>(`${CSR_PATH}/${encodeURIComponent(name)}`, signal))

export const getPod = (
  kube: Kube,
  { namespace, name }: { namespace: string; name: string },
  signal: AbortSignal,
) => orNone(kube.get<V1Pod>(`/api/v1/namespaces/${namespace}/pods/${encodeURIComponent(name)}`, signal))

/** The object as it is sent: items of a list come without kind and apiVersion. */
function withStatus(
  object: V1CertificateSigningRequest,
  status: V1CertificateSigningRequest['status'],
): V1CertificateSigningRequest {
  const typed = { apiVersion: 'certificates.k8s.io/v1', kind: 'CertificateSigningRequest' }
  return { ...object, ...typed, status: { ...object.status, ...status } }
}

/** Adds a condition, through /approval for a decision and /status for a failure. @throws KubeError 409 if it changed. */
export function addCondition(
  kube: Kube,
  object: V1CertificateSigningRequest,
  condition: Condition,
  signal: AbortSignal,
): Promise<V1CertificateSigningRequest> {
  const conditions = [...(object.status?.conditions ?? []), { ...condition, status: 'True' }]
  const subresource = condition.type === 'Failed' ? 'status' : 'approval'
  return kube.replace(`${pathOf(object)}/${subresource}`, withStatus(object, { conditions }), signal)
}

/** @throws KubeError 409 if it changed. */
export function setCertificate(
  kube: Kube,
  object: V1CertificateSigningRequest,
  chain: string,
  signal: AbortSignal,
): Promise<V1CertificateSigningRequest> {
  const certificate = Buffer.from(chain).toString('base64')
  return kube.replace(`${pathOf(object)}/status`, withStatus(object, { certificate }), signal)
}

/**
 * Deletes this very object, not a later one of the same name; nor one that waits for an answer again, since etcd was put
 * back to before it had one: that is another version of it.
 */
export async function deleteRequest(
  kube: Kube,
  object: V1CertificateSigningRequest,
  signal: AbortSignal,
): Promise<void> {
  try {
    if (await deleteVersion(kube, object, signal)) return
    const present = await kube.get<V1CertificateSigningRequest>(pathOf(object), signal)
    if (present.metadata?.uid === object.metadata?.uid && isAnswered(present))
      await deleteVersion(kube, present, signal)
  } catch (error) {
    if (!isKubeError(error, 404)) throw error
  }
}

/** False: there is another version. */
async function deleteVersion(
  kube: Kube,
  object: V1CertificateSigningRequest,
  signal: AbortSignal,
): Promise<boolean> {
  const { uid, resourceVersion } = object.metadata ?? {}
  const options = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid, resourceVersion } }
  try {
    await kube.delete(pathOf(object), options, signal)
    return true
  } catch (error) {
    if (isKubeError(error, 409)) return false
    throw error
  }
}

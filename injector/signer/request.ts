// A CertificateSigningRequest as the approver and the signer read it: what the API server vouches for (the
// requester's name and its token's extra fields) apart from what the requester wrote.
import type { V1CertificateSigningRequest, V1Pod } from '@kubernetes/client-node'
import { asPosternError } from '../../shared/errors.ts'
import { type SpiffeId, workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { type Csr, parseCsr } from '../../shared/x509/csr.ts'

export type Requester = { readonly namespace: string; readonly serviceAccount: string }

/** The fields of a pod-bound token: each is exactly one value or absent. */
export type BoundPod = { readonly name?: string; readonly uid?: string; readonly node?: string }

const USERNAME = /^system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)$/

/** The service account that asks; undefined for people, nodes and anything else. */
export function requesterOf({ spec }: V1CertificateSigningRequest): Requester | undefined {
  const [, namespace, serviceAccount] = USERNAME.exec(spec.username ?? '') ?? []
  return namespace && serviceAccount ? { namespace, serviceAccount } : undefined
}

export function boundPodOf({ spec }: V1CertificateSigningRequest): BoundPod {
  const only = (field: string): string | undefined => {
    const values = spec.extra?.[`authentication.kubernetes.io/${field}`] ?? []
    return values.length === 1 ? values[0] : undefined
  }
  const [name, uid, node] = [only('pod-name'), only('pod-uid'), only('node-name')]
  return { ...(name && { name }), ...(uid && { uid }), ...(node && { node }) }
}

/** `pod` if it is the one that the token is bound to: a StatefulSet gives one name to many pods. */
export const ifBound = (object: V1CertificateSigningRequest, pod: V1Pod | undefined): V1Pod | undefined =>
  pod?.metadata?.uid !== undefined && pod.metadata.uid === boundPodOf(object).uid ? pod : undefined

/** The identity that a requester may have; undefined if its names do not fit into a SPIFFE ID. */
export function identityOf(requester: Requester, trustDomain: string): SpiffeId | undefined {
  try {
    return workloadSpiffeId({ trustDomain, ...requester })
  } catch {
    return undefined
  }
}

/** `spec.request`, decoded from base64: the PEM as the requester sent it. */
export const requestBytes = ({ spec }: V1CertificateSigningRequest): Buffer =>
  Buffer.from(spec.request, 'base64')

/** The parsed request, or why it does not parse. */
export function readRequest(bytes: Buffer): { csr: Csr } | { flaw: string } {
  try {
    return { csr: parseCsr(bytes.toString('latin1')) }
  } catch (error) {
    return { flaw: asPosternError(error, 'PSTN_CSR_DENIED').message }
  }
}

export type ConditionType = 'Approved' | 'Denied' | 'Failed'

export const hasCondition = ({ status }: V1CertificateSigningRequest, type: ConditionType): boolean =>
  status?.conditions?.some(condition => condition.type === type) ?? false

/** Issued, denied or failed. */
export const isAnswered = (object: V1CertificateSigningRequest): boolean =>
  Boolean(object.status?.certificate) || hasCondition(object, 'Denied') || hasCondition(object, 'Failed')

/** Approved, and nobody has answered it. */
export const awaitsSignature = (object: V1CertificateSigningRequest): boolean =>
  hasCondition(object, 'Approved') && !isAnswered(object)

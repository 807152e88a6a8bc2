// A PodCertificateRequest (certificates.k8s.io, KEP-4317) as the kubelet makes it for a projected volume of a pod, and what
// is read of it. Nothing in it says who made it: that only the pod's own kubelet may is the admission policy's to hold
// (deploy/manifests/admission-requests.yaml) and the API server's NodeRestriction.
import type { V1ObjectMeta } from '@kubernetes/client-node'
import { CSR_LABEL } from '../../shared/x509/csr.ts'
import { contextTag, der, TAG } from '../../shared/x509/der.ts'
import { encodePem } from '../../shared/x509/pem.ts'

/** As on the wire, where times are text. */
export type PodCertificateRequest = {
  readonly apiVersion?: string
  readonly kind?: string
  readonly metadata?: V1ObjectMeta
  readonly spec: {
    readonly signerName: string
    readonly podName: string
    readonly podUID: string
    readonly serviceAccountName: string
    readonly serviceAccountUID: string
    readonly nodeName: string
    readonly nodeUID: string
    /** The API server fills it in: at least an hour, at most 91 days. */
    readonly maxExpirationSeconds?: number
    /** Base64, DER. */
    readonly stubPKCS10Request?: string
    /** Base64, DER: what kubelets before 1.36 send instead. The API server has checked their proof of possession. */
    readonly pkixPublicKey?: string
    readonly unverifiedUserAnnotations?: Readonly<Record<string, string>>
  }
  readonly status?: PodCertificateStatus
}

export type PodCertificateStatus = {
  readonly conditions?: readonly PodCertificateCondition[]
  readonly certificateChain?: string
  readonly notBefore?: string
  readonly notAfter?: string
  readonly beginRefreshAt?: string
}

export type PodCertificateCondition = {
  readonly type: 'Issued' | 'Denied' | 'Failed'
  readonly status: 'True'
  readonly reason: string
  readonly message: string
  readonly lastTransitionTime: string
}

/** Issued, denied or failed: the API server lets nobody change it any more. */
export const isAnswered = ({ status }: PodCertificateRequest): boolean =>
  (status?.conditions ?? []).length > 0

/** `<namespace>/<name>` */
export const keyOf = ({ metadata }: PodCertificateRequest): string =>
  `${metadata?.namespace ?? ''}/${metadata?.name ?? ''}`

/** The stub as the PEM that parseCsr reads. */
export const stubPem = (base64: string): string => encodePem(CSR_LABEL, Buffer.from(base64, 'base64'))

/**
 * The CertificationRequestInfo of a stub: version 1, no subject, the key, no attributes. Kubernetes asks signers to deny any
 * other, since whoever wrote more into it would expect to find it in the certificate.
 */
export const stubInfo = (publicKeySpki: Buffer): Buffer =>
  der(
    TAG.sequence,
    der(TAG.integer, Buffer.from([0])),
    der(TAG.sequence),
    publicKeySpki,
    der(contextTag(0, true)),
  )

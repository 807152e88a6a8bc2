// An honest request and its pod, and how the cases of this folder say what is different about theirs. The same data
// runs through the approver (test/unit) and through a real API server (test/kube), and is the page docs/forged-requests.md.
import type { Revoked } from '../../../shared/revocation.ts'
import type { RequestParts } from '../../support/forged-requests.ts'

export const SIGNER = 'postern.dev/workload'
export const TRUST_DOMAIN = 'cluster.local'
export const NOW = Date.parse('2026-11-21T12:00:00Z')
export const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/cart'
export const ADMIN = 'spiffe://cluster.local/ns/shop/sa/admin'
export const POD_NAME = 'cart-7d9f'
export const POD_UID = '0b5bd8a1-7c0d-4a5e-9a4e-2f6f5f0d1c11'
/** What is revoked while the corpus is judged. */
export const REVOKED_IDENTITY = 'spiffe://cluster.local/ns/shop/sa/revoked'
export const REVOKED_UID = '7c3e9f10-2222-4333-8444-555566667777'
export const REVOKED: Revoked = { serials: [], identities: [REVOKED_IDENTITY], pods: [REVOKED_UID] }
export const OTHER_UID = '5d7c1a20-1111-4222-8333-444455556666'

export const honestPod = {
  metadata: { name: POD_NAME, namespace: 'shop', uid: POD_UID },
  spec: { serviceAccountName: 'cart', nodeName: 'node-1' },
  status: { phase: 'Running' },
}

export const honestObject = {
  apiVersion: 'certificates.k8s.io/v1',
  kind: 'CertificateSigningRequest',
  metadata: { name: `postern-${POD_UID}-0`, uid: 'c5d0' },
  spec: {
    signerName: SIGNER,
    usages: ['digital signature', 'server auth', 'client auth'],
    username: 'system:serviceaccount:shop:cart',
    groups: ['system:serviceaccounts', 'system:serviceaccounts:shop', 'system:authenticated'],
    extra: {
      'authentication.kubernetes.io/pod-name': [POD_NAME],
      'authentication.kubernetes.io/pod-uid': [POD_UID],
      'authentication.kubernetes.io/node-name': ['node-1'],
      'authentication.kubernetes.io/node-uid': ['n1'],
      'authentication.kubernetes.io/credential-id': ['JTI=1'],
    },
  },
}

export type Patch = { readonly [key: string]: unknown }

/** `object` and `pod` are JSON merge patches (RFC 7396) of the honest pair. */
export type Case = {
  /** What is different. */
  readonly name: string
  readonly csr?: RequestParts
  /** Changes the PEM text. */
  readonly pem?: (pem: string) => string
  readonly object?: Patch
  /** `null`: there is no such pod. */
  readonly pod?: Patch | null
  /** A patch of what is sent that the API server drops or overwrites: nobody behind it sees it. */
  readonly sent?: Patch
  /** Why no API server can be brought to show it: then the approver alone is asked. */
  readonly unreal?: string
}

/** Who may refuse, in the order in which a request meets them. */
export const LAYERS = {
  authentication: 'the API server does not know who asks',
  RBAC: 'the API server knows, and that one may not',
  'API server': 'its validation: what is no certificate request by its reading of the schema and of PKCS#10',
  'admission policy': 'the ValidatingAdmissionPolicy `postern-requests`',
  approver: 'the injector, by the rules below: the request is marked Denied, with the rule and the reason',
  signer: 'the injector, after an approval by hand: the request is marked Failed, with the reason',
  sidecar: 'the one that asked, of the certificate that it was given',
} as const
export type Layer = keyof typeof LAYERS

/** What the approver must deny, whoever refuses it before. */
export type Forgery = Case & {
  /** The approver's rule. */
  readonly rule: string
  /** The approver's reason. */
  readonly because: RegExp
  /** The layer of a real API server that refuses it first, unless that is the approver. */
  readonly layer?: 'API server' | 'admission policy'
}

export const extra = (key: string, value: readonly string[] | null): Patch => ({
  spec: { extra: { [`authentication.kubernetes.io/${key}`]: value } },
})
export const metadata = (fields: Patch): Patch => ({ metadata: fields })
export const named = (name: string): Patch => metadata({ name })
export const spec = (fields: Patch): Patch => ({ spec: fields })

/** The PEM with empty lines within its block, which no reader minds, up to so many bytes. */
export const paddedTo = (bytes: number, pem: string): string =>
  pem.replace('\n', '\n'.repeat(bytes - Buffer.byteLength(pem) + 1))

export type Body = Omit<Case, 'name' | 'csr'> & Pick<Forgery, 'layer'>

export const BY_API_SERVER: Body = { layer: 'API server' }

/** What is not, byte for byte, the request that the pod may make. */
export const canonical = (name: string, csr: RequestParts, because: RegExp, more: Body = {}): Forgery => ({
  name,
  csr,
  rule: 'canonical',
  because,
  ...more,
})

/** Further extensions behind the SAN. */
export const extended = (...extensions: Buffer[]): RequestParts => ({ extensions })

// An honest request and its pod, and variations that the approver must let through or leave alone, as data.
// `object` and `pod` are JSON merge patches (RFC 7396) of the honest pair. What it must deny is forged.ts.
import type { RequestParts } from '../../support/forged-requests.ts'

export const SIGNER = 'postern.dev/workload'
export const TRUST_DOMAIN = 'cluster.local'
export const NOW = Date.parse('2026-11-21T12:00:00Z')
export const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/cart'
export const POD_UID = '0b5bd8a1-7c0d-4a5e-9a4e-2f6f5f0d1c11'
export const OTHER_UID = '5d7c1a20-1111-4222-8333-444455556666'

export const honestPod = {
  metadata: { name: 'cart-7d9f', namespace: 'shop', uid: POD_UID },
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
      'authentication.kubernetes.io/pod-name': ['cart-7d9f'],
      'authentication.kubernetes.io/pod-uid': [POD_UID],
      'authentication.kubernetes.io/node-name': ['node-1'],
      'authentication.kubernetes.io/node-uid': ['n1'],
      'authentication.kubernetes.io/credential-id': ['JTI=1'],
    },
  },
}

export type Patch = { readonly [key: string]: unknown }

export type Case = {
  /** What is different. */
  readonly name: string
  readonly csr?: RequestParts
  /** Changes the PEM text. */
  readonly pem?: (pem: string) => string
  readonly object?: Patch
  /** `null`: there is no such pod. */
  readonly pod?: Patch | null
}

export const extra = (key: string, value: readonly string[] | null): Patch => ({
  spec: { extra: { [key]: value } },
})
export const metadata = (fields: Patch): Patch => ({ metadata: fields })
export const spec = (fields: Patch): Patch => ({ spec: fields })

export const approved: readonly Case[] = [
  { name: 'an honest request' },
  { name: 'the last of the eight names', object: metadata({ name: `postern-${POD_UID}-7` }) },
  {
    name: 'usages in another order',
    object: spec({ usages: ['client auth', 'digital signature', 'server auth'] }),
  },
  { name: 'a lifetime asked for', object: spec({ expirationSeconds: 600 }) },
  { name: 'a pod that has not started yet', pod: { status: { phase: 'Pending' } } },
  {
    name: 'a pod that shuts down, within its grace period',
    pod: { metadata: { deletionTimestamp: '2026-11-21T12:00:30Z' } },
  },
  { name: 'PEM without a last newline', pem: pem => pem.trimEnd() },
  { name: 'empty maps of labels and annotations', object: metadata({ labels: {}, annotations: {} }) },
  { name: 'fields of the token that nobody asks for', object: extra('example.com/anything', ['a', 'b']) },
]

/** Neither approved nor denied. */
export const ignored: readonly Case[] = [
  { name: 'a request to another signer', object: spec({ signerName: 'kubernetes.io/kubelet-serving' }) },
  { name: 'a request to another signer of our domain', object: spec({ signerName: 'postern.dev/serving' }) },
  { name: 'a request of a person', object: spec({ username: 'alice', extra: null }) },
  { name: 'a request of a node', object: spec({ username: 'system:node:node-1', extra: null }) },
  {
    name: 'a name that only looks like a service account’s',
    object: spec({ username: 'system:serviceaccount:shop' }),
  },
  { name: 'an approved request', object: { status: { conditions: [{ type: 'Approved', status: 'True' }] } } },
  { name: 'a denied request', object: { status: { conditions: [{ type: 'Denied', status: 'True' }] } } },
]

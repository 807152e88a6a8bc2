// Requests that never reach the approver, and that it might not mind: they are other layers' alone to refuse.
import { type Case, spec } from './cases.ts'

/** By what the request is sent, where it is not in the name of the case's user. */
export type Bearer =
  | 'nothing'
  | 'a token of a pod that is gone'
  | 'a token for another audience'
  | 'a token with another signature'
  | 'a token whose claims were changed'

export type RefusedElsewhere = Omit<Case, 'pod'> & {
  readonly layer: 'authentication' | 'RBAC' | 'API server' | 'admission policy'
  readonly bearer?: Bearer
  /** What the layer answers. */
  readonly says: RegExp
}

const bearers: readonly RefusedElsewhere[] = (
  [
    'a token of a pod that is gone',
    'a token for another audience',
    'a token with another signature',
    'a token whose claims were changed',
  ] as const
).map(bearer => ({ name: `a request by ${bearer}`, bearer, layer: 'authentication', says: /Unauthorized/ }))

const forbidden: readonly RefusedElsewhere[] = [
  {
    name: 'a request by nobody in particular',
    bearer: 'nothing',
    layer: 'RBAC',
    says: /system:anonymous.*cannot create/,
  },
  {
    name: 'a request of a namespace without injected pods',
    object: spec({
      username: 'system:serviceaccount:bank:cart',
      groups: ['system:serviceaccounts', 'system:serviceaccounts:bank', 'system:authenticated'],
    }),
    layer: 'RBAC',
    says: /cannot create/,
  },
  {
    name: 'a request of a person without the right to ask',
    object: spec({ username: 'mallory', groups: ['system:authenticated'], extra: null }),
    layer: 'RBAC',
    says: /cannot create/,
  },
]

const signer = (name: string, signerName: string, usages: readonly string[]): RefusedElsewhere => ({
  name: `a pod’s request to ${name}`,
  object: spec({ signerName, usages }),
  layer: 'admission policy',
  says: /may only ask the signer 'postern\.dev\/workload'/,
})

const otherSigners: readonly RefusedElsewhere[] = [
  signer('the signer of API clients', 'kubernetes.io/kube-apiserver-client', ['client auth']),
  signer('the signer of kubelets as clients', 'kubernetes.io/kube-apiserver-client-kubelet', ['client auth']),
  signer('the signer of kubelets as servers', 'kubernetes.io/kubelet-serving', ['server auth']),
  signer('another signer of our domain', 'postern.dev/serving', ['server auth']),
  signer('a signer of cert-manager', 'clusterissuers.cert-manager.io/ca', ['server auth']),
  signer('a signer whose name begins with ours', 'postern.dev/workload.x', ['server auth']),
]

const invalid = (
  name: string,
  fields: Readonly<Record<string, unknown>>,
  says: RegExp,
): RefusedElsewhere => ({
  name,
  object: spec(fields),
  layer: 'API server',
  says,
})

const schema: readonly RefusedElsewhere[] = [
  invalid(
    'a lifetime of a second less than ten minutes',
    { expirationSeconds: 599 },
    /less than 600 seconds/,
  ),
  invalid('a lifetime below zero', { expirationSeconds: -1 }, /less than 600 seconds/),
  invalid('a lifetime that is no int32', { expirationSeconds: 2_147_483_648 }, /./),
  invalid('a lifetime in words', { expirationSeconds: '24h' }, /./),
  invalid('no signer', { signerName: null }, /signerName/),
  invalid('a signer without a domain', { signerName: 'workload' }, /signerName/),
  invalid(
    'the signer of before there were signers',
    { signerName: 'kubernetes.io/legacy-unknown' },
    /legacy/,
  ),
  invalid('usages that are no list', { usages: 'client auth' }, /./),
  invalid('a request that is not base64', { request: '*' }, /./),
  invalid('no request', { request: null }, /PEM block type must be CERTIFICATE REQUEST/),
]

export const refusedElsewhere: readonly RefusedElsewhere[] = [
  ...bearers,
  ...forbidden,
  ...otherSigners,
  ...schema,
]

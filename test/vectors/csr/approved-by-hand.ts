// What the signer must not sign although a person approved it: `kubectl certificate approve` asks no approver.
import { caTrue, dns, uri } from '../../support/forged-requests.ts'
import { ADMIN, type Case, IDENTITY, spec } from './cases.ts'

export type ApprovedByHand = Omit<Case, 'pod'> & {
  /** The signer's reason. */
  readonly because: RegExp
  /** The API server refuses it before anybody can approve it. */
  readonly layer?: 'API server'
}

const PERSON = spec({ username: 'alice', groups: ['people'], extra: null })

const forPods: readonly ApprovedByHand[] = [
  {
    name: 'a pod’s request for another service account’s identity',
    csr: { names: [uri(ADMIN)] },
    because: /URI SAN .*sa\/cart and nothing else/,
  },
  {
    name: 'a pod’s request with an extra DNS name',
    csr: { names: [uri(IDENTITY), dns('admin.bank.svc')] },
    because: /nothing else/,
  },
  { name: 'a pod’s request for a CA', csr: { extensions: [caTrue()] }, because: /nothing else/ },
  { name: 'a pod’s weak key', csr: { key: 'rsa1024' }, because: /P-256/ },
  { name: 'a pod’s key of another curve', csr: { key: 'p384' }, because: /P-256/ },
  { name: 'a pod’s signature with SHA-384', csr: { hash: 'sha384' }, because: /not signed by the key/ },
  {
    name: 'a pod’s request with a key that it does not hold',
    csr: { foreignSignature: true },
    because: /not signed by the key/,
    layer: 'API server',
  },
  { name: 'a pod’s two requests in one', pem: pem => pem + pem, because: /exactly one PEM block/ },
]

const person = (name: string, csr: NonNullable<Case['csr']>, because: RegExp): ApprovedByHand => ({
  name: `a person’s ${name}`,
  csr,
  object: PERSON,
  because,
})

const forPeople: readonly ApprovedByHand[] = [
  person('request for a CA', { extensions: [caTrue()] }, /nothing else/),
  person(
    'request for a foreign trust domain',
    { names: [uri('spiffe://elsewhere/ns/a/sa/b')] },
    /in cluster\.local/,
  ),
  person('request for what is no workload', { names: [uri('spiffe://cluster.local/root')] }, /workload/),
  person('request for two identities', { names: [uri(IDENTITY), uri(ADMIN)] }, /nothing else/),
  person('request for no identity', { withoutExtensions: true }, /workload/),
  person('request for a DNS name', { names: [dns('cart.shop.svc')] }, /workload/),
  person('request for an identity that is not canonical', { names: [uri(`${IDENTITY}/`)] }, /workload/),
  person('request whose SAN is not critical', { sanCritical: false }, /nothing else/),
  person('weak key', { key: 'rsa1024' }, /P-256/),
]

export const approvedByHand: readonly ApprovedByHand[] = [...forPods, ...forPeople]

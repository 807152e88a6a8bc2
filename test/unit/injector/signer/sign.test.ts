import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import t from 'tap'
import { boundPodOf, ifBound } from '../../../../injector/signer/request.ts'
import { leafFor, lifetime, signable } from '../../../../injector/signer/sign.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { caTrue, forgeRequest, type RequestParts, uri } from '../../../support/forged-requests.ts'
import { mergePatch } from '../../../support/merge-patch.ts'
import { honestObject, IDENTITY, NOW, type Patch, TRUST_DOMAIN } from '../../../vectors/csr/cases.ts'

const conditions = (...types: string[]): Patch => ({
  status: { conditions: types.map(type => ({ type, status: 'True' })) },
})
const APPROVED = conditions('Approved')
const byPerson: Patch = { ...APPROVED, spec: { username: 'alice', extra: null } }

function object(patch: Patch, csr: RequestParts = {}): V1CertificateSigningRequest {
  const request = Buffer.from(forgeRequest(IDENTITY, csr)).toString('base64')
  return mergePatch(mergePatch<Patch>(honestObject, { spec: { request } }), patch)
}

t.test('signs an approved request of a pod with the identity of its token', async t => {
  t.match(signable(object(APPROVED), TRUST_DOMAIN), { kind: 'sign', identity: IDENTITY })
})

t.test('signs the identity that a human approved for a human', async t => {
  t.match(signable(object(byPerson), TRUST_DOMAIN), { kind: 'sign', identity: IDENTITY })
})

const waits: Record<string, Patch> = {
  'a request that nobody approved': {},
  'a denied one': conditions('Denied'),
  'one that failed before': conditions('Approved', 'Failed'),
  'one that has its certificate': { status: { ...(APPROVED.status as object), certificate: 'AAAA' } },
}
for (const [name, patch] of Object.entries(waits)) {
  t.test(`leaves alone ${name}`, async t => {
    t.same(signable(object(patch), TRUST_DOMAIN), { kind: 'wait' })
  })
}

const admin = 'spiffe://cluster.local/ns/shop/sa/admin'
const fails: Record<string, { patch: Patch; csr: RequestParts }> = {
  'another identity than the service account’s, whoever approved it': {
    patch: APPROVED,
    csr: { names: [uri(admin)] },
  },
  'a CA, whoever approved it': { patch: byPerson, csr: { extensions: [caTrue()] } },
  'a foreign trust domain, whoever approved it': {
    patch: byPerson,
    csr: { names: [uri('spiffe://elsewhere/ns/a/sa/b')] },
  },
  'what is no workload, whoever approved it': {
    patch: byPerson,
    csr: { names: [uri('spiffe://cluster.local/root')] },
  },
  'two identities': { patch: byPerson, csr: { names: [uri(IDENTITY), uri(admin)] } },
  'no identity': { patch: byPerson, csr: { withoutExtensions: true } },
  'a weak key': { patch: APPROVED, csr: { key: 'rsa1024' } },
  'a key that the requester does not hold': { patch: APPROVED, csr: { foreignSignature: true } },
}
for (const [name, { patch, csr }] of Object.entries(fails)) {
  t.test(`never signs ${name}`, async t => {
    t.match(signable(object(patch, csr), TRUST_DOMAIN), { kind: 'fail', reason: /./ })
  })
}

t.test('never signs what does not parse', async t => {
  const garbage = mergePatch<V1CertificateSigningRequest>(object(APPROVED), { spec: { request: 'AAAA' } })
  t.match(signable(garbage, TRUST_DOMAIN), { kind: 'fail' })
})

t.test('a leaf lives as long as asked, within the maximum', async t => {
  t.equal(lifetime(3600, 86_400), 3600)
  t.equal(lifetime(31_536_000, 86_400), 86_400)
  t.equal(lifetime(undefined, 604_800), 86_400)
  t.equal(lifetime(600, 15), 15)
})

const facts = {
  object: object({}),
  identity: parseSpiffeId(IDENTITY).id,
  publicKey: Buffer.alloc(91),
  serviceNames: ['web', 'api'],
  maxLeafLifetimeSeconds: 3600,
  now: NOW,
}

t.test('a leaf is named after the pod and the Services that select it', async t => {
  t.match(leafFor(facts), {
    commonName: 'cart-7d9f',
    uri: IDENTITY,
    dnsNames: ['api.shop.svc', 'api.shop.svc.cluster.local', 'web.shop.svc', 'web.shop.svc.cluster.local'],
    lifetimeSeconds: 3600,
  })
})

t.test('a pod that was made anew under the same name is not the one that asked', async t => {
  const uid = boundPodOf(object({})).uid ?? ''
  const pod = (of: string) => ({ metadata: { name: 'cart-7d9f', namespace: 'shop', uid: of } })
  t.same(ifBound(object(APPROVED), pod(uid)), pod(uid))
  t.equal(ifBound(object(APPROVED), pod('another')), undefined)
  t.equal(ifBound(object(byPerson), { metadata: {} }), undefined)
})

t.test('a leaf of a human’s request has no common name', async t => {
  t.notOk('commonName' in leafFor({ ...facts, object: object(byPerson) }))
})

t.test('no more than 32 Services lend their names', async t => {
  const serviceNames = Array.from({ length: 1000 }, (_, index) => `s${index}`)
  t.equal(leafFor({ ...facts, serviceNames }).dnsNames.length, 64)
})

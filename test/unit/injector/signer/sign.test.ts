import { generateKeyPairSync } from 'node:crypto'
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import t from 'tap'
import { createIssuer, createRoot, openAuthority } from '../../../../injector/ca/authority.ts'
import { boundPodOf, ifBound } from '../../../../injector/signer/request.ts'
import { leafFor, lifetime, signable } from '../../../../injector/signer/sign.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../../../shared/revocation.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { inputOf } from '../../../support/forged-case.ts'
import { mergePatch } from '../../../support/merge-patch.ts'
import { approvedByHand } from '../../../vectors/csr/approved-by-hand.ts'
import { IDENTITY, NOW, type Patch, POD_UID, TRUST_DOMAIN } from '../../../vectors/csr/cases.ts'

const conditions = (...types: string[]): Patch => ({
  status: { conditions: types.map(type => ({ type, status: 'True' })) },
})
const APPROVED = conditions('Approved')
const byPerson: Patch = { ...APPROVED, spec: { username: 'alice', extra: null } }

const NOBODY = revocationCheck(NOBODY_REVOKED)

const object = (patch: Patch): V1CertificateSigningRequest => inputOf({ name: '', object: patch }).object

t.test('signs an approved request of a pod with the identity of its token', async t => {
  t.match(signable(object(APPROVED), TRUST_DOMAIN, NOBODY), { kind: 'sign', identity: IDENTITY })
})

t.test('signs the identity that a human approved for a human', async t => {
  t.match(signable(object(byPerson), TRUST_DOMAIN, NOBODY), { kind: 'sign', identity: IDENTITY })
})

const waits: Record<string, Patch> = {
  'a request that nobody approved': {},
  'a denied one': conditions('Denied'),
  'one that failed before': conditions('Approved', 'Failed'),
  'one that has its certificate': { status: { ...(APPROVED.status as object), certificate: 'AAAA' } },
}
for (const [name, patch] of Object.entries(waits)) {
  t.test(`leaves alone ${name}`, async t => {
    t.same(signable(object(patch), TRUST_DOMAIN, NOBODY), { kind: 'wait' })
  })
}

for (const { name, because, ...one } of approvedByHand) {
  t.test(`never signs ${name}`, async t => {
    const approved = mergePatch<V1CertificateSigningRequest>(inputOf({ name, ...one }).object, APPROVED)
    t.match(signable(approved, TRUST_DOMAIN, NOBODY), { kind: 'fail', reason: because })
  })
}

t.test('never signs what is revoked, whoever approved it', async t => {
  const revoked = revocationCheck({ serials: [], identities: [IDENTITY], pods: [] })
  for (const patch of [APPROVED, byPerson]) {
    t.match(signable(object(patch), TRUST_DOMAIN, revoked), {
      kind: 'fail',
      reason: /identity .* is revoked/,
    })
  }
  const pod = revocationCheck({ serials: [], identities: [], pods: [POD_UID] })
  t.match(signable(object(APPROVED), TRUST_DOMAIN, pod), { kind: 'fail', reason: /pod .* is revoked/ })
  t.match(signable(object(byPerson), TRUST_DOMAIN, pod), { kind: 'sign' })
})

t.test('never signs what does not parse', async t => {
  const garbage = mergePatch<V1CertificateSigningRequest>(object(APPROVED), { spec: { request: 'AAAA' } })
  t.match(signable(garbage, TRUST_DOMAIN, NOBODY), { kind: 'fail' })
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
  clusterDomain: 'cluster.local',
  maxLeafLifetimeSeconds: 3600,
  now: NOW,
}

t.test('a leaf is named after the pod and the Services that select it', async t => {
  t.match(leafFor(facts), {
    commonName: 'cart-7d9f',
    podUid: POD_UID,
    uri: IDENTITY,
    dnsNames: ['api.shop.svc', 'api.shop.svc.cluster.local', 'web.shop.svc', 'web.shop.svc.cluster.local'],
    lifetimeSeconds: 3600,
  })
})

t.test('a cluster may have another DNS domain', async t => {
  const { dnsNames } = leafFor({ ...facts, serviceNames: ['web'], clusterDomain: 'k8s.example.org' })
  t.strictSame(dnsNames, ['web.shop.svc', 'web.shop.svc.k8s.example.org'])
})

t.test('a pod that was made anew under the same name is not the one that asked', async t => {
  const uid = boundPodOf(object({})).uid ?? ''
  const pod = (of: string) => ({ metadata: { name: 'cart-7d9f', namespace: 'shop', uid: of } })
  t.same(ifBound(object(APPROVED), pod(uid)), pod(uid))
  t.equal(ifBound(object(APPROVED), pod('another')), undefined)
  t.equal(ifBound(object(byPerson), { metadata: {} }), undefined)
})

t.test('a pod that is named like a host does not pass for it', async t => {
  const root = await createRoot(TRUST_DOMAIN, NOW)
  const authority = await openAuthority({ root, issuer: await createIssuer(root, TRUST_DOMAIN, NOW) })
  const publicKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({
    format: 'der',
    type: 'spki',
  })
  const own = leafFor({ ...facts, publicKey, serviceNames: [] })
  for (const leaf of [own, { ...own, dnsNames: [] }]) {
    const { x509 } = parseCertificate((await authority.issue({ ...leaf, commonName: 'web.shop.svc' })).chain)
    t.equal(x509.checkHost('web.shop.svc'), undefined)
  }
  t.match(own, { commonName: 'cart-7d9f', dnsNames: [`${POD_UID}.shop.pod`] })
})

t.test('a leaf of a human’s request has no common name and no pod', async t => {
  const leaf = leafFor({ ...facts, object: object(byPerson) })
  t.notOk('commonName' in leaf)
  t.notOk('podUid' in leaf)
})

t.test('no more than 32 Services lend their names', async t => {
  const serviceNames = Array.from({ length: 1000 }, (_, index) => `s${index}`)
  t.equal(leafFor({ ...facts, serviceNames }).dnsNames.length, 64)
})

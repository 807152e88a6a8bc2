import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { V1Pod } from '@kubernetes/client-node'
import t from 'tap'
import { decide, type Knowledge, RULES, tooShort } from '../../../../injector/podcertificates/decide.ts'
import { type PodCertificateRequest, stubInfo } from '../../../../injector/podcertificates/request.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../../../shared/revocation.ts'
import { createCsr } from '../../../../shared/x509/csr.ts'
import { der, derOid, TAG } from '../../../../shared/x509/der.ts'
import { OID } from '../../../../shared/x509/oids.ts'
import { decodePem } from '../../../../shared/x509/pem.ts'

const NOW = Date.parse('2030-01-01T00:00:00Z')
const UID = '0b9d9d0f-1111-4222-8333-123456789abc'
const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/cart'
const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spkiOf = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' })
const spki = spkiOf(keys.publicKey)
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const ed25519 = generateKeyPairSync('ed25519')
const rsa = generateKeyPairSync('rsa', { modulusLength: 3072 })

const ECDSA_SHA256 = der(TAG.sequence, derOid(OID.ecdsaWithSha256))

/** A stub as the kubelet makes it, of any key. */
function stub(
  pair: { publicKey: KeyObject; privateKey: KeyObject } = keys,
  signer = pair.privateKey,
): string {
  const info = stubInfo(spkiOf(pair.publicKey))
  const digest = signer.asymmetricKeyType === 'ed25519' ? null : 'sha256'
  const signature = der(TAG.bitString, Buffer.from([0]), sign(digest, info, signer))
  return der(TAG.sequence, info, ECDSA_SHA256, signature).toString('base64')
}

type Spec = PodCertificateRequest['spec']

const request = (
  change: Partial<Spec> = {},
  more: Partial<PodCertificateRequest> = {},
): PodCertificateRequest => ({
  metadata: { namespace: 'shop', name: 'req-1', uid: 'u' },
  spec: {
    signerName: 'postern.dev/workload',
    podName: 'cart-0',
    podUID: UID,
    serviceAccountName: 'cart',
    serviceAccountUID: 'sa',
    nodeName: 'node-1',
    nodeUID: 'n',
    maxExpirationSeconds: 86_400,
    stubPKCS10Request: stub(),
    ...change,
  },
  ...more,
})

const pod = (change: { metadata?: object; spec?: object; status?: object } = {}): V1Pod => ({
  metadata: { namespace: 'shop', name: 'cart-0', uid: UID, ...change.metadata },
  spec: { containers: [], nodeName: 'node-1', serviceAccountName: 'cart', ...change.spec },
  status: { phase: 'Pending', ...change.status },
})

const knowledge: Knowledge = {
  trustDomain: 'cluster.local',
  maxLeafLifetimeSeconds: 86_400,
  revoked: revocationCheck(NOBODY_REVOKED),
  now: NOW,
}

t.test('the kubelet’s request for a live pod gets the pod’s identity', async t => {
  t.strictSame(decide(request(), pod(), knowledge), {
    kind: 'issue',
    identity: IDENTITY,
    publicKey: spki,
    lifetimeSeconds: 86_400,
  })
})

t.test('so does one of an older kubelet, with the bare key', async t => {
  const { stubPKCS10Request: _stub, ...spec } = request().spec
  const older = { ...request(), spec: { ...spec, pkixPublicKey: spki.toString('base64') } }
  t.match(decide(older, pod(), knowledge), { kind: 'issue', publicKey: spki })
})

t.test('a pod that shuts down is served until its time is over', async t => {
  const ends = (ms: number) => pod({ metadata: { deletionTimestamp: new Date(NOW + ms) } })
  t.match(decide(request(), ends(1_000), knowledge), { kind: 'issue' })
  t.match(decide(request(), ends(-1_000), knowledge), { kind: 'deny', rule: 'pod-live' })
})

t.test('the lifetime is as asked, within what the signer issues', async t => {
  const lifetime = (maxExpirationSeconds: number, maxLeafLifetimeSeconds: number) => {
    const verdict = decide(request({ maxExpirationSeconds }), pod(), { ...knowledge, maxLeafLifetimeSeconds })
    return verdict.kind === 'issue' ? verdict.lifetimeSeconds : verdict
  }
  t.equal(lifetime(3600, 86_400), 3600)
  t.equal(lifetime(86_400, 3600), 3840, 'four minutes of it have passed when it is issued')
  t.equal(lifetime(86_400, 3360), 3600)
  t.match(lifetime(86_400, 3359), {
    kind: 'wait',
    rule: 'lifetime',
    message: /maxLeafLifetimeSeconds is 3359/,
  })
  t.equal(tooShort(3360), undefined)
})

t.test('who is revoked waits: a denial would outlast the revocation', async t => {
  const revoked = (change: Partial<typeof NOBODY_REVOKED>) =>
    decide(request(), pod(), { ...knowledge, revoked: revocationCheck({ ...NOBODY_REVOKED, ...change }) })
  t.match(revoked({ identities: [IDENTITY] }), {
    kind: 'wait',
    rule: 'revoked',
    message: /identity .* is revoked/,
  })
  t.match(revoked({ pods: [UID] }), { kind: 'wait', rule: 'revoked', message: /pod .* is revoked/ })
  t.match(revoked({ pods: ['other'], identities: [`${IDENTITY}s`] }), { kind: 'issue' })
})

t.test('what has been answered is left alone', async t => {
  for (const type of ['Issued', 'Denied', 'Failed'] as const) {
    const condition = { type, status: 'True', reason: 'R', message: '', lastTransitionTime: '' } as const
    t.same(decide(request({}, { status: { conditions: [condition] } }), pod(), knowledge), { kind: 'ignore' })
  }
})

const withSan = decodePem('CERTIFICATE REQUEST', createCsr(keys, IDENTITY))?.toString('base64') ?? ''

const DENIALS: readonly (readonly [
  name: string,
  rule: string,
  request: PodCertificateRequest,
  pod: V1Pod | undefined,
  reason?: string,
])[] = [
  ['a pod that is not there', 'pod-exists', request(), undefined],
  ['a pod that was made anew', 'pod-uid', request({ podUID: 'former' }), pod()],
  ['a pod of another namespace', 'pod-uid', request(), pod({ metadata: { namespace: 'other' } })],
  ['another service account', 'pod-service-account', request({ serviceAccountName: 'admin' }), pod()],
  ['another node', 'pod-node', request({ nodeName: 'node-2' }), pod()],
  ['a pod that is on no node', 'pod-node', request(), pod({ spec: { nodeName: undefined } })],
  ['a pod that has ended', 'pod-live', request(), pod({ status: { phase: 'Succeeded' } })],
  [
    'a name that no SPIFFE ID has',
    'identity',
    request({ serviceAccountName: 'ä' }),
    pod({ spec: { serviceAccountName: 'ä' } }),
  ],
  ['a P-384 key', 'key', request({ stubPKCS10Request: stub(p384) }), pod(), 'UnsupportedKeyType'],
  ['an Ed25519 key', 'key', request({ stubPKCS10Request: stub(ed25519) }), pod(), 'UnsupportedKeyType'],
  ['an RSA key', 'key', request({ stubPKCS10Request: stub(rsa) }), pod(), 'UnsupportedKeyType'],
  [
    'a bare P-384 key',
    'key',
    request({ stubPKCS10Request: '', pkixPublicKey: spkiOf(p384.publicKey).toString('base64') }),
    pod(),
    'UnsupportedKeyType',
  ],
  ['no key', 'key', request({ stubPKCS10Request: '' }), pod(), 'UnsupportedKeyType'],
  ['a stub that does not parse', 'pkcs10', request({ stubPKCS10Request: 'AAAA' }), pod()],
  ['a stub that asks for a name', 'stub', request({ stubPKCS10Request: withSan }), pod()],
  [
    'a stub of another’s key',
    'signature',
    request({ stubPKCS10Request: stub(keys, generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey) }),
    pod(),
  ],
  [
    'annotations of the user',
    'user-annotations',
    request({ unverifiedUserAnnotations: { 'a.example/b': 'c' } }),
    pod(),
    'InvalidUnverifiedUserAnnotations',
  ],
]

for (const [name, rule, object, live, reason = 'PosternDenied'] of DENIALS) {
  t.test(`denies ${name}`, async t => {
    const verdict = decide(object, live, knowledge)
    t.match(verdict, { kind: 'deny', rule, reason })
    t.ok(verdict.kind === 'deny' && verdict.message.length > 10)
  })
}

t.test(
  'each rule is needed: without it a case of the table is let through, or denied by another',
  async t => {
    for (const { name } of RULES) {
      const without = RULES.filter(rule => rule.name !== name)
      const cases = DENIALS.filter(([, rule]) => rule === name)
      const changed = cases.filter(([, , object, live]) => {
        const verdict = decide(object, live, knowledge, without)
        return verdict.kind !== 'deny' || verdict.rule !== name
      })
      t.ok(changed.length > 0, name)
    }
  },
)

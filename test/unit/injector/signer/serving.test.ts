import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import t from 'tap'
import { createIssuer, createRoot, openAuthority } from '../../../../injector/ca/authority.ts'
import { servable } from '../../../../injector/signer/serving.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { OID } from '../../../../shared/x509/oids.ts'
import { checkSvidLeaf } from '../../../../shared/x509/svid.ts'
import { requireOpenssl } from '../../../support/openssl.ts'
import { servingObject, servingPem } from '../../../support/serving-request.ts'
import { type ServingCase, SIGNED, UNSIGNED } from '../../../vectors/csr/serving.ts'

const skip = requireOpenssl()
const DAY_SECONDS = 86_400
const MAX_SECONDS = 7 * DAY_SECONDS
const NOW = Date.now()
const BACKDATE_SECONDS = 300

const status = (...types: string[]) => ({
  conditions: types.map(type => ({ type, status: 'True' })),
})
const approved = (one: ServingCase) => ({
  ...servingObject('web', servingPem(one), one),
  status: status('Approved'),
})
const decide = (object: V1CertificateSigningRequest) =>
  servable(object, { maxServingLifetimeSeconds: MAX_SECONDS }, NOW)

const root = await createRoot('cluster.local', NOW)
const issuer = await createIssuer(root, 'cluster.local', NOW)
const authority = await openAuthority({ root, issuer })

for (const { name, dns = ['web.shop.svc'], ips = [], seconds = MAX_SECONDS, ...rest } of SIGNED) {
  t.test(`signs a request with ${name}`, { skip }, async t => {
    const object = approved({ name, ...rest })
    const decision = decide(object)
    if (decision.kind !== 'sign') throw new Error(JSON.stringify(decision))
    const leaf = parseCertificate((await authority.issue(decision.leaf)).chain)
    t.same(leaf.dnsSans, dns)
    t.same(decision.leaf.ipAddresses, ips)
    t.same(leaf.uriSans, [])
    t.equal(leaf.isCa, false)
    t.same(leaf.extKeyUsage, [OID.serverAuth])
    t.same([...(leaf.keyUsage ?? [])], rest.keyUsage ?? ['digitalSignature'])
    const commonName = 'commonName' in rest ? rest.commonName : 'web.shop.svc'
    t.equal(leaf.x509.subject, commonName === undefined ? undefined : `CN=${commonName}`)
    t.ok(leaf.spki.equals(decision.leaf.publicKeySpki), 'the key that was asked for, byte for byte')
    t.equal((leaf.notAfter.getTime() - leaf.notBefore.getTime()) / 1000, seconds + BACKDATE_SECONDS)
  })

  t.test(`no peer is let in with the certificate for ${name}`, { skip }, async t => {
    const decision = decide(approved({ name, ...rest }))
    if (decision.kind !== 'sign') throw new Error(JSON.stringify(decision))
    const leaf = parseCertificate((await authority.issue(decision.leaf)).chain)
    const check = () => checkSvidLeaf(leaf, { trustDomain: 'cluster.local', now: NOW })
    t.throws(check, new PosternError('PSTN_PEER_ID_INVALID', '0 URI SANs; an SVID has exactly one'))
  })
}

for (const { name, because, ...one } of UNSIGNED) {
  t.test(`never signs a request with ${name}`, { skip }, async t => {
    t.match(decide(approved({ name, ...one })), { kind: 'fail', reason: because })
  })
}

t.test('leaves alone what nobody approved, what is denied, failed or answered', { skip }, async t => {
  const object = approved({ name: 'web' })
  for (const other of [
    { ...object, status: {} },
    { ...object, status: status('Denied') },
    { ...object, status: status('Approved', 'Failed') },
    { ...object, status: { ...status('Approved'), certificate: 'AAAA' } },
  ])
    t.same(decide(other), { kind: 'wait' })
})

t.test('never signs what is no request', { skip }, async t => {
  const pem = servingPem({ name: 'web' })
  for (const text of ['', 'hello', `${pem}${pem}`, pem.replaceAll('\n', '\r\n'), `text\n${pem}`])
    t.match(decide({ ...servingObject('web', text), status: status('Approved') }), { kind: 'fail' })
})

t.test('never signs a request with another key’s signature', { skip }, async t => {
  const [one, other] = [servingPem({ name: '' }), servingPem({ name: '' })].map(pem =>
    Buffer.from(pem.replaceAll(/-----.*-----|\n/g, ''), 'base64'),
  )
  if (!one || !other) throw new Error('two requests')
  const at = one.length - 60
  const mixed = Buffer.concat([one.subarray(0, at), other.subarray(other.length - 60)])
  const pem = `-----BEGIN CERTIFICATE REQUEST-----\n${mixed.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`
  t.match(decide({ ...servingObject('web', pem), status: status('Approved') }), {
    kind: 'fail',
    reason: /not signed by the key|not a PKCS#10|reaches behind|bytes after/,
  })
})

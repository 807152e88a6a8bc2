import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { createIssuer, createRoot, openAuthority } from '../../../../injector/ca/authority.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { checkIssuedChain } from '../../../../shared/x509/answer.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { der, derOid, TAG } from '../../../../shared/x509/der.ts'
import { OID } from '../../../../shared/x509/oids.ts'
import { podUidOf } from '../../../../shared/x509/subject.ts'
import { openssl, requireOpenssl } from '../../../support/openssl.ts'

const UID = '0b5bd8a1-7c0d-4a5e-9a4e-2f6f5f0d1c11'
const PRINTABLE_STRING = 0x13
const COMMON_NAME = '2.5.4.3'

const attribute = (oid: string, value: string) =>
  der(TAG.sequence, derOid(oid), der(PRINTABLE_STRING, Buffer.from(value)))
const rdn = (...attributes: Buffer[]) => der(TAG.set, ...attributes)
const uid = attribute(OID.serialNumber, UID)
const name = attribute(COMMON_NAME, 'cart-0')

const cases: readonly (readonly [name: string, subject: Buffer, uid: string | undefined])[] = [
  ['beside a common name', der(TAG.sequence, rdn(name), rdn(uid)), UID],
  ['in one relative name with it', der(TAG.sequence, rdn(name, uid)), UID],
  ['alone', der(TAG.sequence, rdn(uid)), UID],
  ['not there', der(TAG.sequence, rdn(name)), undefined],
  ['of an empty subject', der(TAG.sequence), undefined],
  ['there twice', der(TAG.sequence, rdn(uid), rdn(uid)), undefined],
  ['of something that is no Name', der(TAG.sequence, uid), undefined],
  ['cut off', der(TAG.sequence, rdn(uid)).subarray(0, 20), undefined],
]
for (const [what, subject, expected] of cases) {
  t.test(`the pod’s uid ${what}: ${expected ?? 'none'}`, async t => {
    t.equal(podUidOf(subject), expected)
  })
}

t.test('what our signer writes is read by us, by OpenSSL and by Node, and accepted by sidecars', async t => {
  const now = Date.now()
  const root = await createRoot('cluster.local', now)
  const issuer = await createIssuer(root, 'cluster.local', now)
  const authority = await openAuthority({ root, issuer })
  const identity = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/cart').id
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const publicKeySpki = publicKey.export({ format: 'der', type: 'spki' })
  const request = { publicKeySpki, uri: identity, dnsNames: ['cart.shop.svc'], lifetimeSeconds: 3600, now }
  for (const commonName of ['cart-0', undefined]) {
    const { chain } = await authority.issue({ ...request, ...(commonName && { commonName }), podUid: UID })
    const leaf = parseCertificate(chain)
    t.equal(podUidOf(leaf.subject), UID)
    t.match(leaf.x509.subject, `serialNumber=${UID}`)
    const { roots } = authority
    t.ok(checkIssuedChain({ chainPem: chain, publicKey, identity, roots, now }).serial)
    if (requireOpenssl()) continue
    const [subject] = openssl(['x509', '-noout', '-subject'], { input: chain }).toString().split('\n')
    t.equal(subject?.replaceAll(' ', ''), `subject=${commonName ? 'CN=cart-0,' : ''}serialNumber=${UID}`)
    const files = { 'root.pem': root.certificate, 'issuer.pem': issuer.certificate, 'leaf.pem': leaf.pem }
    const verify = ['verify', '-x509_strict', '-CAfile', 'root.pem', '-untrusted', 'issuer.pem', 'leaf.pem']
    t.match(openssl(verify, { files }).toString(), 'leaf.pem: OK')
  }
})

// What the DER reader says of a certificate, against what Node, OpenSSL and another library say of the same one.
import 'reflect-metadata'
import { X509Certificate as NodeCertificate } from 'node:crypto'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  Extension,
  KeyUsagesExtension,
  X509Certificate,
} from '@peculiar/x509'
import t from 'tap'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { DerError, der, TAG } from '../../../../shared/x509/der.ts'
import { ExtendedKeyUsage, KeyUsageFlags, testAuthority } from '../../../support/certificates.ts'
import { openssl, requireOpenssl } from '../../../support/openssl.ts'

const identity = 'spiffe://cluster.local/ns/shop/sa/cart'
const authority = await testAuthority('cluster.local')
const intermediate = await authority.intermediate()

const samples: Record<string, string> = {
  'a root': authority.root,
  'a leaf': (await authority.issue({ identity })).leaf,
  'a leaf with DNS names': (await authority.issue({ identity, dns: ['a.b.svc', 'c.d.svc'] })).leaf,
  'a leaf without names and extended usages': (await authority.issue({ extKeyUsage: [] })).leaf,
  'a leaf with many key usages': (
    await authority.issue({ identity, keyUsage: KeyUsageFlags.keyAgreement | KeyUsageFlags.decipherOnly })
  ).leaf,
  'a leaf beyond 2050': (await authority.issue({ identity, notAfter: new Date('2061-02-03T04:05:06Z') }))
    .leaf,
  'a leaf for clients': (await authority.issue({ identity, extKeyUsage: [ExtendedKeyUsage.clientAuth] }))
    .leaf,
}

for (const [name, pem] of Object.entries(samples)) {
  t.test(`${name} reads as Node and @peculiar/x509 read it`, async t => {
    const ours = parseCertificate(pem)
    const node = new NodeCertificate(pem)
    const other = new X509Certificate(pem)
    t.equal(ours.serial, node.serialNumber.toLowerCase())
    t.equal(ours.notBefore.getTime(), node.validFromDate.getTime())
    t.equal(ours.notAfter.getTime(), node.validToDate.getTime())
    t.equal(ours.fingerprint256, node.fingerprint256.replaceAll(':', '').toLowerCase())
    t.same(ours.spki, node.publicKey.export({ format: 'der', type: 'spki' }))
    t.same(ours.subject, Buffer.from(other.subjectName.toArrayBuffer()))
    t.same(ours.issuer, Buffer.from(other.issuerName.toArrayBuffer()))
    const sans = (kind: string, values: readonly string[]) => values.map(value => `${kind}:${value}`)
    const all = [...sans('URI', ours.uriSans), ...sans('DNS', ours.dnsSans)]
    t.equal(all.join(', '), node.subjectAltName ?? '')
    t.equal(ours.isCa, other.getExtension(BasicConstraintsExtension)?.ca)
    t.equal(ours.isCa, node.ca)
    t.same(ours.extKeyUsage, other.getExtension(ExtendedKeyUsageExtension)?.usages)
    const bits = other.getExtension(KeyUsagesExtension)?.usages ?? 0
    const named = Object.entries(KeyUsageFlags).filter(
      ([, bit]) => typeof bit === 'number' && (bits & bit) !== 0,
    )
    t.same([...(ours.keyUsage ?? [])].sort(), named.map(([usage]) => usage).sort())
    t.same(ours.unknownCritical, [])
    t.equal(parseCertificate(ours.pem).fingerprint256, ours.fingerprint256)
  })
}

const CONFIG = `
[req]
distinguished_name = dn
[dn]
[all]
basicConstraints = critical, CA:TRUE, pathlen:3
keyUsage = critical, digitalSignature, nonRepudiation, keyEncipherment, dataEncipherment, keyAgreement, keyCertSign, cRLSign, encipherOnly, decipherOnly
extendedKeyUsage = serverAuth, clientAuth, codeSigning
subjectAltName = URI:${identity}, URI:spiffe://second, DNS:one.example, IP:10.0.0.1, email:a@b.example, otherName:1.2.3.4;UTF8:hello
[critical]
1.2.3.4.5 = critical, ASN1:UTF8String:unheard of
[none]
subjectKeyIdentifier = none
`
const opensslCertificate = (section: string, ...key: string[]) =>
  openssl(
    [
      ...'req -x509 -nodes -config req.cnf -subj /O=Acme/CN=test -days 10 -keyout /dev/null'.split(' '),
    ].concat(
      ['-extensions', section, '-set_serial', '0x8000000000000001'],
      key.length > 0 ? key : ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    ),
    { files: { 'req.cnf': CONFIG } },
  ).toString()

t.test(
  'all usages, kinds of SAN and constraints of an OpenSSL certificate',
  { skip: requireOpenssl() },
  async t => {
    const read = parseCertificate(opensslCertificate('all'))
    t.equal(read.serial, '8000000000000001')
    t.same(read.uriSans, [identity, 'spiffe://second'])
    t.same(read.dnsSans, ['one.example'])
    t.equal(read.isCa, true)
    t.equal(read.pathLength, 3)
    t.equal(read.keyUsage?.size, 9)
    t.same(read.extKeyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.3'])
    t.equal(read.isSignedBy(read), true)
  },
)

t.test('a critical extension that nobody knows is named', { skip: requireOpenssl() }, async t => {
  t.same(parseCertificate(opensslCertificate('critical')).unknownCritical, ['1.2.3.4.5'])
})

t.test('without extensions there are no usages at all', { skip: requireOpenssl() }, async t => {
  const read = parseCertificate(opensslCertificate('none', '-newkey', 'rsa:2048'))
  t.equal(read.keyUsage, undefined)
  t.equal(read.extKeyUsage, undefined)
  t.equal(read.isCa, false)
})

t.test('knows who signed it', async t => {
  const [leaf = '', issuer = ''] = (await intermediate.issue({ identity })).chain
    .split(/(?<=-----END CERTIFICATE-----\n)/)
    .map(String)
  const root = parseCertificate(authority.root)
  const forger = parseCertificate((await testAuthority('cluster.local')).root)
  t.equal(parseCertificate(leaf).isSignedBy(parseCertificate(issuer)), true)
  t.equal(parseCertificate(issuer).isSignedBy(root), true)
  t.equal(parseCertificate(leaf).isSignedBy(root), false)
  t.equal(parseCertificate(issuer).isSignedBy(forger), false, 'the same name with another key')
})

t.test('refuses what is not a certificate', async t => {
  for (const bad of ['', 'hello', Buffer.alloc(0), Buffer.from('3000', 'hex')]) {
    t.throws(() => parseCertificate(bad), DerError)
  }
})

t.test(
  'DER is never searched for PEM: a certificate inside a certificate is not the one that is read',
  async t => {
    const victim = await authority.issue({ identity: 'spiffe://cluster.local/ns/shop/sa/victim' })
    const hidden = der(TAG.octetString, Buffer.from(`\n${victim.leaf}`))
    const outer = await authority.issue({
      identity,
      extensions: [new Extension('1.3.6.1.4.1.99999.1', false, new Uint8Array(hidden))],
    })
    const { raw } = new NodeCertificate(outer.leaf)
    t.same(
      new NodeCertificate(raw).subjectAltName,
      'URI:spiffe://cluster.local/ns/shop/sa/victim',
      'as Node does',
    )
    t.same(parseCertificate(raw).uriSans, [identity])
    t.same(parseCertificate(outer.leaf).uriSans, [identity])
  },
)

t.test('bytes behind a certificate in DER are refused', async t => {
  const { raw } = new NodeCertificate(authority.root)
  t.ok(parseCertificate(raw))
  t.throws(() => parseCertificate(Buffer.concat([raw, Buffer.of(0)])), DerError)
})

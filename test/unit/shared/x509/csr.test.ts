import 'reflect-metadata'
import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { Pkcs10CertificateRequest } from '@peculiar/x509'
import t from 'tap'
import { buildCsrInfo, createCsr, isP256Spki, parseCsr } from '../../../../shared/x509/csr.ts'
import { encodePem } from '../../../../shared/x509/pem.ts'
import { openssl, requireOpenssl } from '../../../support/openssl.ts'

const identity = 'spiffe://cluster.local/ns/shop/sa/cart'
const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = keys.publicKey.export({ format: 'der', type: 'spki' })
const privatePem = String(keys.privateKey.export({ format: 'pem', type: 'pkcs8' }))
const LABEL = 'CERTIFICATE REQUEST'

t.test('a request is the canonical form, signed by its key', async t => {
  const csr = parseCsr(createCsr(keys, identity))
  t.same(csr.info, buildCsrInfo(spki, identity))
  t.same(csr.spki, spki)
  t.equal(csr.signatureValid, true)
})

t.test('OpenSSL writes the same CertificationRequestInfo', { skip: requireOpenssl() }, async t => {
  const san = `subjectAltName=critical,URI:${identity}`
  const args = ['req', '-new', '-config', 'empty.cnf', '-key', 'key.pem', '-subj', '/', '-addext', san]
  const files = { 'key.pem': privatePem, 'empty.cnf': '[req]\ndistinguished_name=dn\n[dn]\n' }
  const csr = parseCsr(openssl(args, { files }).toString())
  t.same(csr.info, buildCsrInfo(spki, identity))
  t.equal(csr.signatureValid, true)
})

t.test('OpenSSL accepts the request and sees one critical URI', { skip: requireOpenssl() }, async t => {
  const args = ['req', '-verify', '-noout', '-text']
  const text = openssl(args, { input: createCsr(keys, identity) }).toString()
  t.match(text, /Subject:\s*\n/)
  t.match(text, /ASN1 OID: prime256v1/)
  t.match(text, new RegExp(`X509v3 Subject Alternative Name: critical\\s+URI:${identity}\\n`))
})

t.test('another X.509 library reads the same', async t => {
  const request = new Pkcs10CertificateRequest(createCsr(keys, identity))
  t.equal(await request.verify(), true)
  t.same(Buffer.from(request.publicKey.rawData), spki)
  t.equal(request.extensions.length, 1)
})

t.test('only P-256 with an uncompressed point counts as such', async t => {
  t.equal(isP256Spki(spki), true)
  const others = [
    generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    generateKeyPairSync('rsa', { modulusLength: 1024 }),
    generateKeyPairSync('ed25519'),
  ]
  for (const { publicKey } of others) {
    t.equal(isP256Spki(publicKey.export({ format: 'der', type: 'spki' })), false)
  }
  t.equal(isP256Spki(spki.subarray(0, -1)), false)
})

t.test('a signature by another key, a changed byte, or a point off the curve is not valid', async t => {
  const { der } = parseCsr(createCsr(keys, identity))
  const changed = Buffer.from(der)
  changed.writeUInt8(changed.readUInt8(der.length - 1) ^ 1, der.length - 1)
  t.equal(parseCsr(encodePem(LABEL, changed)).signatureValid, false)

  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const foreign = createCsr({ publicKey: keys.publicKey, privateKey: other.privateKey }, identity)
  t.equal(parseCsr(foreign).signatureValid, false)

  const offCurve = Buffer.from(der)
  const at = offCurve.indexOf(spki) + spki.length - 1
  offCurve.writeUInt8(offCurve.readUInt8(at) ^ 1, at)
  t.equal(parseCsr(encodePem(LABEL, offCurve)).signatureValid, false)
  t.throws(() =>
    createPublicKey({ key: offCurve.subarray(at + 1 - spki.length, at + 1), format: 'der', type: 'spki' }),
  )
})

t.test('refuses what is not one PEM block with one request', async t => {
  const pem = createCsr(keys, identity)
  const texts = ['', pem + pem, `${pem}x`, encodePem('CERTIFICATE', parseCsr(pem).der)]
  const ders = ['', '3000', '020100', '30060201000201000201']
  for (const text of [...texts, ...ders.map(hex => encodePem(LABEL, Buffer.from(hex, 'hex')))]) {
    t.throws(() => parseCsr(text), { code: 'PSTN_CSR_DENIED' })
  }
})

import 'reflect-metadata'
import { generateKeyPairSync, webcrypto } from 'node:crypto'
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509CertificateGenerator,
} from '@peculiar/x509'
import t from 'tap'
import { createIssuer, createRoot } from '../../../../injector/ca/authority.ts'
import { fromSecret, toSecret } from '../../../../injector/ca/material.ts'
import { issuerIsDue } from '../../../../injector/ca/store.ts'
import { encodePem } from '../../../../shared/x509/pem.ts'

const now = Date.now()
const DAY_MS = 86_400_000
const root = await createRoot('cluster.local', now)
const issuer = await createIssuer(root, 'cluster.local', now)
const secret = toSecret({ root, issuer }, 'postern-system')
const base64 = (text: string) => Buffer.from(text).toString('base64')
const withData = (data: Record<string, string>) => ({ ...secret, data: { ...secret.data, ...data } })

t.test('what was written reads back', async t => {
  t.same(fromSecret(secret, 'cluster.local', now), { root, issuer })
})

const otherRoot = await createRoot('cluster.local', now)
const foreign = await createRoot('elsewhere', now)
const foreignIssuer = await createIssuer(foreign, 'elsewhere', now)
// A root as people make their own, with the path length that fits a CA of leaves.
const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
  'sign',
  'verify',
])
const short = await X509CertificateGenerator.createSelfSigned({
  name: 'CN=own',
  notAfter: new Date(now + DAY_MS),
  keys,
  signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  extensions: [
    new BasicConstraintsExtension(true, 0, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign, true),
  ],
})
const shortRoot = {
  certificate: short.toString('pem'),
  key: encodePem('PRIVATE KEY', Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))),
}
const shortIssuer = await createIssuer(shortRoot, 'cluster.local', now)
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({
  format: 'pem',
  type: 'pkcs8',
})

const refused: Record<string, { data: Record<string, string>; message: RegExp }> = {
  'a missing key': { data: { 'issuer.key': '' }, message: /issuer\.key: missing/ },
  'a certificate that does not parse': {
    data: { 'root.crt': base64('x') },
    message: /root\.crt: not a certificate/,
  },
  'a key that does not parse': {
    data: { 'root.key': base64('SECRET') },
    message: /root\.key: not a private key/,
  },
  'a key of another curve': {
    data: { 'issuer.key': base64(String(p384)) },
    message: /issuer\.key: not a P-256/,
  },
  'a key of another certificate': {
    data: { 'root.key': base64(issuer.key) },
    message: /root\.key: not the key of root\.crt/,
  },
  'an issuer that another root signed': {
    data: { 'root.crt': base64(otherRoot.certificate), 'root.key': base64(otherRoot.key) },
    message: /issuer\.crt: root\.crt did not sign it/,
  },
  'a root that is not a root': {
    data: { 'root.crt': base64(issuer.certificate), 'root.key': base64(issuer.key) },
    message: /root\.crt: it is not self-signed/,
  },
  'more than one certificate in a key': {
    data: { 'root.crt': base64(root.certificate + otherRoot.certificate) },
    message: /root\.crt: 2 certificates in place of one/,
  },
  'an issuer that its root may not have below it': {
    data: {
      'root.crt': base64(shortRoot.certificate),
      'root.key': base64(shortRoot.key),
      'issuer.crt': base64(shortIssuer.certificate),
      'issuer.key': base64(shortIssuer.key),
    },
    message: /root\.crt: its path length of 0 allows no issuer/,
  },
  'the CA of another trust domain': {
    data: {
      'root.crt': base64(foreign.certificate),
      'root.key': base64(foreign.key),
      'issuer.crt': base64(foreignIssuer.certificate),
      'issuer.key': base64(foreignIssuer.key),
    },
    message: /root\.crt: it is for spiffe:\/\/elsewhere, the trust domain is cluster\.local/,
  },
}
for (const [name, { data, message }] of Object.entries(refused)) {
  t.test(`refuses ${name}, naming the Secret and the key`, async t => {
    t.throws(() => fromSecret(withData(data), 'cluster.local', now), { code: 'PSTN_CONFIG_INVALID', message })
  })
}

t.test('refuses an expired root', async t => {
  const late = now + 6 * 365 * DAY_MS
  t.throws(() => fromSecret(secret, 'cluster.local', late), { message: /root\.crt: it has expired/ })
})

t.test('an error never quotes what may be a key', async t => {
  try {
    fromSecret(withData({ 'root.key': base64('SECRET') }), 'cluster.local', now)
    t.fail('accepted')
  } catch (error) {
    t.notMatch(JSON.stringify(error, Object.getOwnPropertyNames(error)), 'SECRET')
  }
})

t.test('an issuer is due at two thirds of its life, and stays due when it has expired', async t => {
  for (const [days, due] of [
    [0, false],
    [19, false],
    [20.1, true],
    [31, true],
  ] as const) {
    t.equal(issuerIsDue({ root, issuer }, now + days * DAY_MS), due, `after ${days} days`)
  }
})

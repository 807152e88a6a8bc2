import 'reflect-metadata'
import { generateKeyPairSync, webcrypto } from 'node:crypto'
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509CertificateGenerator,
} from '@peculiar/x509'
import t from 'tap'
import { type CaMaterial, createIssuer, createRoot } from '../../../../injector/ca/authority.ts'
import { fromSecret, toSecret, withMaterial } from '../../../../injector/ca/material.ts'
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

const rotation = { by: 'alice', began: new Date(now).toISOString(), skipped: [] }
const record = { phase: 'publishing', rotation, former: [], answers: [] } as const
const publishing = { root, issuer, next: otherRoot, record }
const switched = {
  root,
  issuer,
  retired: [otherRoot.certificate],
  record: { ...record, phase: 'switched', rotation: { ...rotation, switched: rotation.began } },
} as const

t.test('a rotation that runs reads back, and its traces go with it', async t => {
  for (const material of [publishing, switched]) {
    const written = toSecret(material, 'postern-system')
    t.same(fromSecret(written, 'cluster.local', now), material)
    t.same(withMaterial(written, { root, issuer }).data, secret.data)
  }
})

const refusedInRotation: Record<string, { from: object; data: Record<string, string>; message: RegExp }> = {
  'a next root without its key': {
    from: publishing,
    data: { 'next-root.key': '' },
    message: /next-root\.key: missing/,
  },
  'a next root that is not a root': {
    from: publishing,
    data: { 'next-root.crt': base64(issuer.certificate), 'next-root.key': base64(issuer.key) },
    message: /next-root\.crt: it is not self-signed/,
  },
  'a next root of another trust domain': {
    from: publishing,
    data: { 'next-root.crt': base64(foreign.certificate), 'next-root.key': base64(foreign.key) },
    message: /next-root\.crt: it is for spiffe:\/\/elsewhere/,
  },
  'a next root that is the present one': {
    from: publishing,
    data: { 'next-root.crt': base64(root.certificate), 'next-root.key': base64(root.key) },
    message: /two of these roots have the same key/,
  },
  'a next root that nobody asked for': {
    from: { root, issuer },
    data: { 'next-root.crt': base64(otherRoot.certificate), 'next-root.key': base64(otherRoot.key) },
    message: /rotation\.json: the phase is idle, but next-root\.crt is there/,
  },
  'a rotation whose next root is gone': {
    from: { root, issuer },
    data: { 'rotation.json': base64(JSON.stringify(record)) },
    message: /rotation\.json: the phase is publishing, but next-root\.crt is missing/,
  },
  'an old root that nobody retired': {
    from: { root, issuer },
    data: { 'retired-roots.crt': base64(otherRoot.certificate) },
    message: /rotation\.json: the phase is idle, but retired-roots\.crt is there/,
  },
  'old roots that are none': {
    from: switched,
    data: { 'retired-roots.crt': base64('x') },
    message: /retired-roots\.crt: it holds no certificate/,
  },
  'an issuer among the old roots': {
    from: switched,
    data: { 'retired-roots.crt': base64(otherRoot.certificate + issuer.certificate) },
    message: /retired-roots\.crt: \w+ is not self-signed/,
  },
  'an old root of another trust domain': {
    from: switched,
    data: { 'retired-roots.crt': base64(foreign.certificate) },
    message: /retired-roots\.crt: it is for spiffe:\/\/elsewhere/,
  },
  'a record that is not JSON': {
    from: switched,
    data: { 'rotation.json': base64('{') },
    message: /rotation\.json: not JSON/,
  },
  'a record with a phase of its own': {
    from: switched,
    data: { 'rotation.json': base64(JSON.stringify({ ...record, phase: 'done' })) },
    message: /rotation\.json\.phase: must be one of idle, publishing, switched/,
  },
}
for (const [name, { from, data, message }] of Object.entries(refusedInRotation)) {
  t.test(`refuses ${name}, naming the key`, async t => {
    const written = toSecret(from as CaMaterial, 'postern-system')
    const edited = { ...written, data: { ...written.data, ...data } }
    t.throws(() => fromSecret(edited, 'cluster.local', now), { code: 'PSTN_CONFIG_INVALID', message })
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

t.test(
  'an issuer is due earlier where leaves would outlive it, but a third of its life is its own',
  async t => {
    for (const [leafDays, days, due] of [
      [1, 19, false],
      [15, 14, false],
      [15, 15.1, true],
      [90, 9, false],
      [90, 10.1, true],
    ] as const) {
      const longest = leafDays * DAY_MS
      t.equal(issuerIsDue({ root, issuer }, now + days * DAY_MS, longest), due, `${leafDays}: ${days}`)
    }
  },
)

t.test('an issuer that lives as long as its root is not renewed over and over', async t => {
  const end = now + 5 * 365 * DAY_MS
  const last = await createIssuer(root, 'cluster.local', end - 10 * DAY_MS)
  t.equal(issuerIsDue({ root, issuer: last }, end - DAY_MS), false)
})

import { execFileSync } from 'node:child_process'
import { createPrivateKey } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import t, { type Test } from 'tap'
import { checkOffer } from '../../../../proxy/credentials/offer.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { IDENTITY } from '../../../support/offered-pod.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const ours = await testAuthority('cluster.local')
const foreign = await testAuthority('cluster.local')

const context = (roots: readonly string[]) => ({ identity: IDENTITY, roots, now: Date.now() })

/** A root and a leaf of a key of this kind, by `openssl`. */
function byOpenssl(t: Test, ...algorithm: string[]) {
  const directory = scratchDirectory(t)
  const path = (name: string) => join(directory, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' })
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc']
  openssl('req', '-x509', ...ec, '-keyout', path('ca.key'), '-out', path('ca.crt'), '-subj', '/CN=ca')
  openssl(
    'req',
    '-new',
    ...algorithm,
    '-noenc',
    '-keyout',
    path('key'),
    '-out',
    path('csr'),
    '-subj',
    '/CN=x',
  )
  const extensions = [
    `subjectAltName=URI:${IDENTITY}`,
    'keyUsage=critical,digitalSignature',
    'extendedKeyUsage=serverAuth,clientAuth',
    'basicConstraints=critical,CA:FALSE',
  ]
  writeFileSync(path('ext'), extensions.join('\n'))
  const signing = ['-CA', path('ca.crt'), '-CAkey', path('ca.key'), '-extfile', path('ext')]
  openssl('x509', '-req', '-in', path('csr'), ...signing, '-out', path('crt'))
  const read = (name: string) => readFileSync(path(name), 'utf8')
  return { root: read('ca.crt'), offer: { key: read('key'), chain: read('crt') } }
}

for (const [name, algorithm] of [
  ['RSA 2048', ['-newkey', 'rsa:2048']],
  ['P-384', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
  ['Ed25519', ['-newkey', 'ed25519']],
] as const) {
  t.test(`a key of ${name} does`, async t => {
    const { root, offer } = byOpenssl(t, ...algorithm)
    t.match(checkOffer(offer, context([root])), { key: /BEGIN PRIVATE KEY/, chain: offer.chain })
  })
}

t.test('a key that OpenSSL would refuse when it is used is refused before', async t => {
  const { root, offer } = byOpenssl(t, '-newkey', 'rsa:1024')
  t.throws(() => checkOffer(offer, context([root])), {
    code: 'PSTN_SOURCE_INVALID',
    message: 'OpenSSL refuses the key or the chain',
  })
})

t.test(
  'halves of two keys are none: OpenSSL itself compares only the public one with the certificate',
  async t => {
    const [one, other] = [await ours.issue({ identity: IDENTITY }), await ours.issue({ identity: IDENTITY })]
    const der = (pem: string) => createPrivateKey(pem).export({ format: 'der', type: 'pkcs8' })
    // The scalar is 32 bytes from byte 36 on (RFC 5915 in RFC 5208), the public point stands behind it.
    const mixed = Buffer.concat([der(other.key).subarray(0, 68), der(one.key).subarray(68)])
    const key = createPrivateKey({ key: mixed, format: 'der', type: 'pkcs8' })
      .export({ format: 'pem', type: 'pkcs8' })
      .toString()
    t.doesNotThrow(() => createSecureContext({ key, cert: one.chain }), 'OpenSSL takes it')
    t.throws(() => checkOffer({ key, chain: one.chain }, context([ours.root])), {
      code: 'PSTN_SOURCE_INVALID',
      message: /private half/,
    })
  },
)

t.test('a source whose own bundle is not the published one: the refusal names its roots', async t => {
  const { key, chain } = await foreign.issue({ identity: IDENTITY })
  const refused = (bundle?: readonly string[]) =>
    t.throws(() => checkOffer({ key, chain, ...(bundle && { bundle }) }, context([ours.root])), {
      code: 'PSTN_SOURCE_INVALID',
    })
  t.match(refused([foreign.root]), { message: `SHA-256 ${foreign.rootFingerprint}` })
  t.notMatch(refused([ours.root]), { message: /own bundle/ }, 'one that would not do either')
  t.notMatch(refused(), { message: /own bundle/ })
})

import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import {
  createIssuer,
  createRoot,
  ISSUER_LIFETIME_SECONDS,
  type LeafRequest,
  openAuthority,
} from '../../../../injector/ca/authority.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { splitPem } from '../../../../shared/trust-bundle.ts'
import { checkIssuedChain } from '../../../../shared/x509/answer.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { openssl, requireOpenssl } from '../../../support/openssl.ts'

// X.509 has whole seconds.
const now = Math.floor(Date.now() / 1000) * 1000
const root = await createRoot('cluster.local', now)
const issuer = await createIssuer(root, 'cluster.local', now)
const authority = await openAuthority({ root, issuer })

const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const identity = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/cart').id
const request: LeafRequest = {
  publicKeySpki: publicKey.export({ format: 'der', type: 'spki' }),
  commonName: 'cart-7d9f',
  dnsNames: ['cart.shop.svc', 'cart.shop.svc.cluster.local'],
  uri: identity,
  lifetimeSeconds: 3600,
  now,
}
const describe = (pem: string) =>
  openssl(['x509', '-noout', '-text', '-nameopt', 'RFC2253'], { input: pem }).toString().replace(/ +/g, ' ')

t.test(
  'OpenSSL sees a root of five years that may sign one intermediate',
  { skip: requireOpenssl() },
  async t => {
    const text = describe(root.certificate)
    t.match(text, 'Subject: CN=cluster.local root,O=Postern')
    t.match(text, 'Basic Constraints: critical\n CA:TRUE, pathlen:1')
    t.match(text, 'Key Usage: critical\n Certificate Sign, CRL Sign')
    t.match(text, 'NIST CURVE: P-256')
    const { notBefore, notAfter } = parseCertificate(root.certificate)
    t.equal(Math.round((notAfter.getTime() - notBefore.getTime()) / 86_400_000), 5 * 365)
  },
)

t.test(
  'OpenSSL sees an issuer of thirty days that may sign leaves only',
  { skip: requireOpenssl() },
  async t => {
    const text = describe(issuer.certificate)
    t.match(text, 'Basic Constraints: critical\n CA:TRUE, pathlen:0')
    t.match(text, 'Key Usage: critical\n Certificate Sign, CRL Sign')
    t.equal(Math.round((authority.issuer.notAfter.getTime() - now) / 1000), ISSUER_LIFETIME_SECONDS)
  },
)

t.test(
  'OpenSSL sees in a leaf what the design says, and nothing else',
  { skip: requireOpenssl() },
  async t => {
    const text = describe((await authority.issue(request)).chain)
    const extensions = text.slice(text.indexOf('X509v3 extensions'), text.indexOf('Signature Algorithm', 300))
    t.match(text, 'Subject: CN=cart-7d9f\n')
    t.match(text, 'Issuer: CN=cluster.local issuer,O=Postern')
    t.match(text, 'Signature Algorithm: ecdsa-with-SHA256')
    t.match(extensions, 'Basic Constraints: critical\n CA:FALSE\n')
    t.match(extensions, 'Key Usage: critical\n Digital Signature\n')
    t.match(
      extensions,
      'Extended Key Usage: \n TLS Web Server Authentication, TLS Web Client Authentication\n',
    )
    const names = `URI:${identity}, DNS:cart.shop.svc, DNS:cart.shop.svc.cluster.local`
    t.match(extensions, `Subject Alternative Name: \n ${names}\n`)
    t.equal(extensions.match(/X509v3 (?!extensions)/g)?.length, 6, 'with both key identifiers')
  },
)

t.test('OpenSSL verifies the chain for both purposes', { skip: requireOpenssl() }, async t => {
  const [leaf = '', above = ''] = splitPem((await authority.issue(request)).chain)
  const files = { 'root.pem': root.certificate, 'issuer.pem': above, 'leaf.pem': leaf }
  for (const purpose of ['sslserver', 'sslclient']) {
    const args = `verify -x509_strict -purpose ${purpose} -CAfile root.pem -untrusted issuer.pem leaf.pem`
    t.equal(openssl(args.split(' '), { files }).toString(), 'leaf.pem: OK\n')
  }
})

t.test('the sidecar accepts the answer', async t => {
  const { chain, serial } = await authority.issue(request)
  const accepted = checkIssuedChain({ chainPem: chain, publicKey, identity, roots: authority.roots, now })
  t.equal(accepted.serial, serial)
  t.equal(accepted.chain, chain)
})

t.test('a leaf without a subject has a critical SAN', { skip: requireOpenssl() }, async t => {
  const { commonName: _, ...nameless } = request
  t.match(describe((await authority.issue(nameless)).chain), 'Subject Alternative Name: critical')
})

t.test('a common name is cut to 64 bytes', async t => {
  const { chain } = await authority.issue({ ...request, commonName: 'x'.repeat(200) })
  t.equal(parseCertificate(chain).x509.subject, `CN=${'x'.repeat(64)}`)
})

t.test('a leaf is backdated five minutes and never outlives its issuer', async t => {
  const { notBefore, notAfter } = await authority.issue(request)
  t.equal(Math.round((now - notBefore.getTime()) / 1000), 300)
  t.equal(notAfter.getTime(), Math.floor(now / 1000) * 1000 + 3_600_000)
  const last = authority.issuer.notAfter.getTime()
  const clamped = await authority.issue({ ...request, now: last - 60_000 })
  t.equal(clamped.notAfter.getTime(), last)
})

t.test('an expired issuer signs nothing', async t => {
  const late = authority.issuer.notAfter.getTime()
  await t.rejects(authority.issue({ ...request, now: late }), { code: 'PSTN_CSR_FAILED' })
})

t.test('serials are positive, 16 bytes, and never the same', async t => {
  const issued = await Promise.all(Array.from({ length: 32 }, () => authority.issue(request)))
  const serials = new Set(issued.map(({ serial }) => serial))
  t.equal(serials.size, 32)
  for (const serial of serials) t.match(serial, /^[4-7][0-9a-f]{31}$/)
})

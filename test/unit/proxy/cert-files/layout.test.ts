import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import t from 'tap'
import { keyAndChainIn, layout, leafIn, rootsIn, sameFiles } from '../../../../proxy/cert-files/layout.ts'
import { splitPem } from '../../../../shared/trust-bundle.ts'
import { testAuthority } from '../../../support/certificates.ts'

const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/cart'
const root = await testAuthority('cluster.local')
const other = await testAuthority('cluster.local', 'CN=next root')
const issuer = await root.intermediate()
const own = await issuer.issue({ identity: IDENTITY })
const bundle = { trustDomain: 'cluster.local', roots: [root.root, other.root] }

t.test('the files hold the key, the leaf with its issuer, every root, and key and chain in one', async t => {
  const files = layout(own, bundle)
  t.same(Object.keys(files).sort(), ['ca.crt', 'tls-combined.pem', 'tls.crt', 'tls.key'])
  const chain = splitPem(files['tls.crt'] ?? '')
  t.equal(chain.length, 2)
  t.equal(files['tls.key'], own.key)
  t.equal(files['tls-combined.pem'], own.key + own.chain)
  t.same(rootsIn(files), bundle.roots)
  const leaf = new X509Certificate(chain[0] ?? '')
  t.ok(leaf.checkPrivateKey(createPrivateKey(files['tls.key'] ?? '')))
  t.strictSame(leafIn(files), { serial: leaf.serialNumber.toLowerCase(), notAfter: own.notAfter })
  const cert = files['tls-combined.pem'] ?? ''
  createSecureContext({ key: cert, cert, ca: files['ca.crt'] })
})

t.test('certificates that do not end their line do not run into each other', async t => {
  const roots = bundle.roots.map(pem => pem.trimEnd())
  const files = layout({ key: own.key.trimEnd(), chain: own.chain.trimEnd() }, { ...bundle, roots })
  t.same(files, layout(own, bundle))
})

t.test('an identity that was taken back leaves the bundle alone', async t => {
  const files = layout(undefined, bundle)
  t.same(Object.keys(files), ['ca.crt'])
  t.equal(keyAndChainIn(files), undefined)
  t.equal(leafIn(files), undefined)
})

t.test('what files hold is read back from them', async t => {
  const { key, chain } = own
  t.same(keyAndChainIn(layout(own, bundle)), { key, chain })
  t.same(layout(keyAndChainIn(layout(own, bundle)), bundle), layout(own, bundle))
})

t.test('files are the same if names and texts are', async t => {
  const files = layout(own, bundle)
  t.ok(sameFiles(files, { ...files }))
  t.notOk(sameFiles(undefined, files))
  t.notOk(sameFiles(layout(undefined, bundle), files))
  t.notOk(sameFiles(files, layout(undefined, bundle)))
  t.notOk(sameFiles(files, { ...files, 'ca.crt': root.root }))
})

import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { splitPem } from '../../../../shared/trust-bundle.ts'
import { checkIssuedChain, type IssuedAnswer } from '../../../../shared/x509/answer.ts'
import { type IssueOptions, testAuthority } from '../../../support/certificates.ts'

const identity = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/cart').id
const root = await testAuthority('cluster.local')
const issuer = await root.intermediate()
const below = await issuer.intermediate()
const forger = await testAuthority('cluster.local')
const now = Date.now()
const MINUTE_MS = 60_000

const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const spki = publicKey.export({ format: 'der', type: 'spki' })
const issue = async (options: IssueOptions = {}, authority = issuer) =>
  (await authority.issue({ identity, publicKey: spki, ...options })).chain
const answer =
  (chainPem: string, change: Partial<IssuedAnswer> = {}) =>
  () =>
    checkIssuedChain({ chainPem, publicKey, identity, roots: [root.root], now, ...change })

t.test('a leaf with its issuer is accepted and described', async t => {
  const chain = await issue()
  const accepted = answer(chain)()
  t.equal(accepted.chain, chain)
  t.match(accepted.serial, /^[0-9a-f]+$/)
  t.ok(accepted.notBefore.getTime() < now && now < accepted.notAfter.getTime())
})

t.test('a leaf signed by the root itself is accepted', async t => {
  t.equal(splitPem(answer(await issue({}, root))().chain).length, 1)
})

t.test('the chain is put in order, the root and strangers dropped', async t => {
  const chain = await issue({}, below)
  const [leaf = '', first = '', second = ''] = splitPem(chain)
  const shuffled = [leaf, root.root, forger.root, second, first].join('')
  t.equal(answer(shuffled)().chain, chain)
})

t.test('a chain that is turned round is put in order: the leaf is the one with our key', async t => {
  const chain = await issue({}, below)
  const [leaf = '', first = '', second = ''] = splitPem(chain)
  for (const order of [
    [second, first, leaf],
    [root.root, second, leaf, first],
    [forger.root, leaf, second, first],
  ])
    t.equal(answer(order.join(''))().chain, chain)
})

t.test('a cross-signed issuer is followed to the root that is trusted, wherever it stands', async t => {
  const [leaf = '', own = ''] = splitPem(await issue())
  const other = await testAuthority('cluster.local')
  const crossed = await other.crossSign(issuer)
  const between = await other.intermediate()
  const deep = await between.crossSign(issuer)
  for (const order of [
    [leaf, crossed, own],
    [leaf, own, crossed],
    [leaf, deep, crossed, own],
  ]) {
    t.equal(answer(order.join(''))().chain, leaf + own)
  }
})

t.test('a ring of cross-signed issuers ends', async t => {
  const { 0: leaf = '' } = splitPem(await issue())
  const ring = await Promise.all(Array.from({ length: 7 }, () => issuer.crossSign(issuer)))
  const started = performance.now()
  t.throws(answer([leaf, ...ring].join('')), { code: 'PSTN_CSR_ANSWER_INVALID', message: /chain/ })
  t.ok(performance.now() - started < 1_000)
})

t.test('any root of the bundle will do', async t => {
  t.ok(answer(await issue(), { roots: [forger.root, root.root] })())
})

t.test('a clock slightly behind the signer is forgiven', async t => {
  t.ok(answer(await issue({ notBefore: new Date(now + 30_000) }))())
})

t.test('a clock far behind the signer has its own code', async t => {
  const chain = await issue({ notBefore: new Date(now + 2 * MINUTE_MS) })
  t.throws(answer(chain), { code: 'PSTN_CLOCK_SKEW' })
})

const mallory = 'spiffe://cluster.local/ns/shop/sa/mallory'
const past = { notBefore: new Date(now - 90 * MINUTE_MS), notAfter: new Date(now - MINUTE_MS) }
const stale = await root.intermediate(past)
const other = createPublicKey(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey)
const notCa = splitPem(await issue({ isCa: false }))[0] ?? ''

const refused: Record<string, { because: RegExp; check: () => unknown }> = {
  'no certificate at all': { because: /no certificate/, check: answer('') },
  'what is no certificate': {
    because: /not a certificate/,
    check: answer('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'),
  },
  'a certificate for another key': {
    because: /another key/,
    check: answer(await issue(), { publicKey: other }),
  },
  'another identity': { because: /is for .*mallory/, check: answer(await issue({ identity: mallory })) },
  'another trust domain': {
    because: /trust domain/,
    check: answer(await issue({ identity: 'spiffe://elsewhere/ns/shop/sa/cart' })),
  },
  'two identities': { because: /2 URI SANs/, check: answer(await issue({ uris: [identity, mallory] })) },
  'a CA certificate': { because: /CA certificate/, check: answer(await issue({ isCa: true })) },
  'a certificate for clients only': {
    because: /extended key usage/,
    check: answer(await issue({ extKeyUsage: [] })),
  },
  'an expired certificate': { because: /expired/, check: answer(await issue(past)) },
  'a chain to a forged root of the same name': { because: /chain/, check: answer(await issue({}, forger)) },
  'a chain without its issuer': { because: /chain/, check: answer(splitPem(await issue())[0] ?? '') },
  'an expired issuer': { because: /chain/, check: answer(await issue({}, stale)) },
  'an empty trust bundle': { because: /chain/, check: answer(await issue(), { roots: [] }) },
  'a leaf as a root': { because: /chain/, check: answer(await issue(), { roots: [notCa] }) },
  'a chain of more than eight': { because: /more than 8/, check: answer((await issue()).repeat(5)) },
}
for (const [name, { because, check }] of Object.entries(refused)) {
  t.test(`throws away ${name}`, async t => {
    t.throws(check, { code: 'PSTN_CSR_ANSWER_INVALID', message: because })
  })
}

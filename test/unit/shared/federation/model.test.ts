// What is pushed of partners is refused where it would let one domain speak for another.
import t from 'tap'
import {
  decodePartnerClients,
  decodePartners,
  identityPatternFlaw,
  isExpectedIdentity,
  type Partner,
} from '../../../../shared/federation/model.ts'

const partner = (identities: readonly string[], trustDomain = 'partner.example'): Partner => ({
  trustDomain,
  roots: [],
  destinations: [{ cidr: '10.9.0.0/16', identities }],
})

t.test('an identity is exact, or everything below a path', async t => {
  const cart = ['spiffe://partner.example/ns/shop/sa/cart']
  t.ok(isExpectedIdentity(cart, 'spiffe://partner.example/ns/shop/sa/cart'))
  t.notOk(isExpectedIdentity(cart, 'spiffe://partner.example/ns/shop/sa/cart2'))
  const shop = ['spiffe://partner.example/ns/shop/*']
  t.ok(isExpectedIdentity(shop, 'spiffe://partner.example/ns/shop/sa/cart'))
  t.notOk(isExpectedIdentity(shop, 'spiffe://partner.example/ns/shop2/sa/cart'), 'whole segments')
  t.notOk(isExpectedIdentity(shop, 'spiffe://partner.example/ns/shop'), 'below, not itself')
  t.ok(isExpectedIdentity(['spiffe://partner.example/*'], 'spiffe://partner.example/anything'))
  t.notOk(isExpectedIdentity([], 'spiffe://partner.example/anything'), 'none means nobody')
})

t.test('what is no identity of the domain is told', async t => {
  const flaw = (pattern: string) => identityPatternFlaw(pattern, 'partner.example')
  t.equal(flaw('spiffe://partner.example/*'), undefined)
  t.equal(flaw('spiffe://partner.example/ns/shop/sa/cart'), undefined)
  t.match(flaw('spiffe://other.example/ns/shop/sa/cart'), /trust domain other\.example, not partner\.example/)
  t.match(flaw('spiffe://other.example/*'), /not partner\.example/)
  for (const pattern of [
    '*',
    '',
    'spiffe://partner.example',
    'spiffe://partner.example*',
    'spiffe://partner.example/ns/sh*',
    'spiffe://partner.example/*/sa/cart',
    'spiffe://partner.example//*',
    'spiffe://*/*',
    'https://partner.example/x',
  ])
    t.ok(flaw(pattern), pattern)
})

t.test('a state with a partner that speaks for another domain, or is there twice, is refused', async t => {
  const own = partner(['spiffe://partner.example/*'])
  t.strictSame(decodePartners([own], 'partners'), [own])
  t.throws(() => decodePartners([partner(['spiffe://cluster.local/*'])], 'partners'), {
    code: 'PSTN_CONFIG_INVALID',
  })
  t.throws(() => decodePartners([own, own], 'partners'), /twice/)
})

t.test('partner clients have principals that are SPIFFE IDs', async t => {
  const clients = {
    name: 'legacy',
    roots: ['PEM'],
    ports: [8443],
    principals: [{ subject: 'CN=a', principal: 'spiffe://legacy.example/a' }],
  }
  t.strictSame(decodePartnerClients([clients], 'x'), [clients])
  const wrong = { ...clients, principals: [{ subject: 'CN=a', principal: '*' }] }
  t.throws(() => decodePartnerClients([wrong], 'x'), { code: 'PSTN_CONFIG_INVALID' })
})

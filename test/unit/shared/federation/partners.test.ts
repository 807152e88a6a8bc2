// Whose roots hold for whom, and who is expected where: longest prefix, own first, nothing guessed.
import t from 'tap'
import type { Partner } from '../../../../shared/federation/model.ts'
import { partnersOf } from '../../../../shared/federation/partners.ts'
import { testAuthority } from '../../../support/certificates.ts'

const OWN = { trustDomain: 'cluster.local', prefixes: ['10.244.0.0/16', 'fd00:1::/32'] }
const a = await testAuthority('a.example')
const b = await testAuthority('b.example')

const partner = (
  { bundle: { trustDomain, roots } }: typeof a,
  destinations: Readonly<Record<string, readonly string[]>>,
): Partner => ({
  trustDomain,
  roots,
  destinations: Object.entries(destinations).map(([cidr, identities]) => ({ cidr, identities })),
})

t.test('the longest prefix decides, of either family, and equal ones of one partner add up', async t => {
  const { placeOf, expects } = partnersOf(
    [
      partner(a, { '10.0.0.0/8': ['spiffe://a.example/*'], '2001:db8::/32': ['spiffe://a.example/six'] }),
      partner(b, { '10.9.0.0/16': ['spiffe://b.example/one'], '10.9.1.1/16': ['spiffe://b.example/two'] }),
    ],
    OWN,
  )
  t.match(placeOf('10.8.0.1'), { kind: 'partner', trustDomain: 'a.example' })
  t.match(placeOf('10.9.200.1'), {
    trustDomain: 'b.example',
    identities: ['spiffe://b.example/one', 'spiffe://b.example/two'],
  })
  t.match(placeOf('2001:db8::7'), { trustDomain: 'a.example' })
  t.equal(placeOf('192.0.2.1'), undefined)
  t.equal(placeOf('2001:db9::7'), undefined)
  t.ok(expects('b.example', 'spiffe://b.example/two', '10.9.0.1'))
  t.notOk(expects('a.example', 'spiffe://a.example/x', '10.9.0.1'), 'of the shorter prefix')
  t.notOk(expects('b.example', 'spiffe://b.example/three', '10.9.0.1'))
  t.notOk(expects('b.example', 'spiffe://b.example/one', '192.0.2.1'))
})

t.test('our own prefixes are nobody else’s', async t => {
  const { placeOf } = partnersOf([partner(a, { '10.244.7.7/32': [], '0.0.0.0/0': [], '::/0': [] })], OWN)
  for (const address of ['10.244.7.7', 'fd00:1::1']) t.equal(placeOf(address), undefined, address)
  for (const address of ['10.245.0.1', 'fd00:2::1']) t.match(placeOf(address), { trustDomain: 'a.example' })
})

t.test('equal prefixes of two partners are disputed, and nobody is expected there', async t => {
  const identities = ['spiffe://a.example/*']
  const { placeOf, expects } = partnersOf(
    [partner(a, { '10.9.0.0/16': identities }), partner(b, { '10.9.5.5/16': [] })],
    OWN,
  )
  t.strictSame(placeOf('10.9.0.1'), { kind: 'disputed', trustDomains: ['a.example', 'b.example'] })
  t.notOk(expects('a.example', 'spiffe://a.example/x', '10.9.0.1'))
})

t.test('each has its own roots, and nobody speaks for us', async t => {
  const impostor = partner(await testAuthority('cluster.local'), {
    '192.0.2.0/24': ['spiffe://cluster.local/*'],
  })
  const { bundleOf, bundles, placeOf } = partnersOf([partner(a, {}), partner(b, {}), impostor], OWN)
  t.strictSame(bundleOf('a.example'), a.bundle)
  t.strictSame(bundleOf('b.example'), b.bundle)
  t.strictSame(bundles, [a.bundle, b.bundle])
  for (const unknown of ['cluster.local', 'A.example', 'a.example.', '', '__proto__'])
    t.equal(bundleOf(unknown), undefined, unknown)
  t.equal(placeOf('192.0.2.1'), undefined)
})

t.test('roots of which one cannot be read trust nobody', async t => {
  const half = { ...partner(a, {}), roots: [...a.bundle.roots, 'no certificate'] }
  t.strictSame(partnersOf([half], OWN).bundleOf('a.example'), { trustDomain: 'a.example', roots: [] })
})

t.test('what is the same is told apart from what has changed', async t => {
  const known = partner(a, { '10.9.0.0/16': ['spiffe://a.example/*'] })
  const { equals } = partnersOf([known], OWN)
  t.ok(equals([structuredClone(known)], structuredClone(OWN)))
  t.notOk(equals([], OWN))
  t.notOk(equals([{ ...known, roots: [] }], OWN))
  t.notOk(equals([known], { ...OWN, prefixes: [] }))
  const calling = partner(a, {})
  for (const given of [[], [calling]]) {
    const { equals } = partnersOf(given, OWN)
    t.ok(equals(given, { ...OWN, prefixes: [] }), 'a node came or went, and nobody is dialled')
    t.notOk(equals(given, { ...OWN, trustDomain: 'other.example' }))
  }
})

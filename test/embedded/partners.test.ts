// Partner trust at the real tunnel, from both ends: who lies about a trust domain, by certificate or by SNI, is refused with its
// code, and each refusal stands beside somebody honest who is let in.
import t from 'tap'
import type { TunnelDialer } from '../../proxy/tunnel/interface.ts'
import type { PartnerPlace } from '../../shared/federation/partners.ts'
import { testAuthority } from '../support/certificates.ts'
import { DuplexOf } from '../support/duplex-of.ts'
import { asCaller, asPartner, haltingRelay, idIn, partnerMesh, stranger } from '../support/partner-mesh.ts'
import { endOf, nextText } from '../support/tunnel-pair.ts'

const [OURS, A, B] = ['ours.example', 'a.example', 'b.example']

async function oursWithTwoPartners() {
  const ours = await partnerMesh(OURS)
  const [a, b] = await Promise.all([testAuthority(A), testAuthority(B)])
  ours.setPartners(asPartner(a), asPartner(b))
  return { ours, a, b }
}

t.test('who may call: our own, and each partner that says its name', async t => {
  const { ours, a, b } = await oursWithTwoPartners()
  await using _ = ours
  const { port } = ours.server
  for (const [authority, servername] of [
    [ours.authority, undefined],
    [ours.authority, OURS],
    [a, A],
    [b, B],
  ] as const) {
    const caller = await authority.issue({ identity: idIn(authority.trustDomain) })
    t.equal(
      await stranger(port, caller, servername),
      'welcome',
      `${authority.trustDomain} says ${servername}`,
    )
  }
  const below = await (await a.intermediate()).issue({ identity: 'spiffe://a.example/of/another/form' })
  t.equal(await stranger(port, below, A), 'welcome', 'by an intermediate, with any path')
  t.same(ours.served, [idIn(OURS), idIn(OURS), idIn(A), idIn(B), 'spiffe://a.example/of/another/form'])
})

t.test('whatever a name claims, a CA speaks for its own trust domain alone', async t => {
  const { ours, a, b } = await oursWithTwoPartners()
  await using _ = ours
  const by = { [OURS]: ours.authority, [A]: a, [B]: b }
  const UNTRUSTED = 'PSTN_PEER_UNTRUSTED'
  const FOREIGN = 'PSTN_PEER_TRUST_DOMAIN'
  const cases: readonly [issuer: string, identity: string, servername: string | undefined, code: string][] = [
    [A, OURS, undefined, UNTRUSTED],
    [A, OURS, OURS, UNTRUSTED],
    [A, OURS, A, FOREIGN],
    [A, OURS, B, UNTRUSTED],
    [A, B, undefined, UNTRUSTED],
    [A, B, B, UNTRUSTED],
    [A, B, A, FOREIGN],
    [A, B, OURS, UNTRUSTED],
    [A, A, undefined, UNTRUSTED],
    [A, A, OURS, UNTRUSTED],
    [A, A, B, UNTRUSTED],
    [OURS, A, undefined, FOREIGN],
    [OURS, A, A, UNTRUSTED],
    [OURS, OURS, A, UNTRUSTED],
  ]
  for (const [issuer, domain, servername, code] of cases) {
    const caller = await by[issuer]?.issue({ identity: idIn(domain) })
    if (!caller) throw new Error(issuer)
    const what = `${issuer} makes an ID of ${domain} and says ${servername}`
    t.equal(await stranger(ours.server.port, caller, servername), code, what)
    t.equal(ours.refused.at(-1)?.code, code, `so does the log: ${what}`)
  }
  const likeOurs = await testAuthority(A, `CN=${OURS} issuer`)
  const crossed = await likeOurs.issue({ identity: idIn(A) })
  const chain = crossed.chain + (await ours.authority.crossSign(likeOurs))
  t.equal(
    await stranger(ours.server.port, { ...crossed, chain }),
    FOREIGN,
    'cross-signed by us, still theirs',
  )
  t.same(ours.served, [])
})

t.test(
  'a partner that serves another’s root as its own, or ours, gains nothing and harms nobody',
  async t => {
    const { ours, a, b } = await oursWithTwoPartners()
    await using _ = ours
    const { port } = ours.server
    // What a bundle holds is public: no key is needed to serve it.
    ours.setPartners(asPartner(a), asPartner(b, undefined, [a.root, ours.authority.root]))
    const by = async (issuer: typeof a, domain: string) => issuer.issue({ identity: idIn(domain) })
    t.equal(await stranger(port, await by(a, A), A), 'welcome', 'the other goes on')
    t.equal(await stranger(port, await by(ours.authority, OURS), OURS), 'welcome', 'and so do we')
    t.equal(
      await stranger(port, await by(a, A), B),
      'PSTN_PEER_TRUST_DOMAIN',
      'his name opens it to nobody else',
    )
    t.equal(await stranger(port, await by(ours.authority, OURS), B), 'PSTN_PEER_TRUST_DOMAIN')
    t.equal(
      await stranger(port, await by(b, B), B),
      'PSTN_PEER_UNTRUSTED',
      'control: he has locked himself out',
    )
    t.equal(await stranger(port, await by(b, A), A), 'PSTN_PEER_UNTRUSTED')
  },
)

t.test('a root of a last good bundle vouches until it expires', async t => {
  await using ours = await partnerMesh(OURS)
  const old = await testAuthority(A, 'CN=old', undefined, new Date(Date.now() - 1000))
  const next = await testAuthority(A)
  ours.setPartners(asPartner(old, undefined, [old.root, next.root]))
  const caller = async (authority: typeof old) => authority.issue({ identity: idIn(A) })
  t.equal(await stranger(ours.server.port, await caller(old), A), 'PSTN_PEER_EXPIRED')
  t.equal(await stranger(ours.server.port, await caller(next), A), 'welcome', 'control: the root beside it')
})

t.test('a name that is no partner’s is refused, also of our own', async t => {
  const { ours, a, b } = await oursWithTwoPartners()
  await using _ = ours
  ours.setPartners(asPartner(a))
  const { port } = ours.server
  const [own, theirs, removed] = await Promise.all(
    [ours.authority, a, b].map(authority => authority.issue({ identity: idIn(authority.trustDomain) })),
  )
  if (!own || !theirs || !removed) throw new Error('three callers')
  t.equal(await stranger(port, removed, B), 'PSTN_PEER_TRUST_DOMAIN', 'removed')
  const odd = [
    'A.EXAMPLE',
    'a.example.',
    '.a.example',
    '*.example',
    'a.example\n',
    'x.a.example',
    '__proto__',
    'é',
  ]
  const names = [...odd, '[::1]', '10.0.0', 'a'.repeat(255), 'OURS.example', 'ours.example.']
  for (const name of names)
    for (const caller of [own, theirs])
      t.equal(await stranger(port, caller, name), 'PSTN_PEER_TRUST_DOMAIN', JSON.stringify(name.slice(0, 30)))
  t.same(ours.served, [])
  t.equal(await stranger(port, theirs, A), 'welcome', 'control')
})

const anyOf = (trustDomain: string, ...identities: readonly string[]): PartnerPlace => ({
  kind: 'partner',
  trustDomain,
  identities: identities.length > 0 ? identities : [`spiffe://${trustDomain}/*`],
})

/** A stream to an echo. */
async function open(dialer: TunnelDialer, expected: PartnerPlace) {
  const signal = AbortSignal.timeout(20_000)
  const target = { address: '127.0.0.1', authority: '127.0.0.1:8080', headers: {}, expected }
  const { stream, peer } = await dialer.open(target, signal)
  const duplex = new DuplexOf(stream)
  const echo = async () => {
    duplex.write('ping')
    return nextText(duplex)
  }
  return { peer, echo, over: endOf(duplex) }
}

/** Each knows the other, and `ours` dials `theirs`. */
async function partners() {
  const stack = new AsyncDisposableStack()
  const [ours, theirs] = [stack.use(await partnerMesh(OURS)), stack.use(await partnerMesh(A))]
  ours.setPartners(asPartner(theirs.authority))
  theirs.setPartners(asPartner(ours.authority))
  const dialer = ours.dialerTo(theirs.server.port)
  return { ours, theirs, dialer, stack, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

t.test('a partner is dialled: each is known to the other by its own roots', async t => {
  await using both = await partners()
  const { theirs, dialer } = both
  const { peer, echo } = await open(dialer, anyOf(A))
  t.match(peer, { identity: idIn(A), trustDomain: A })
  t.equal(await echo(), 'ping')
  t.same(theirs.served, [idIn(OURS)])
  t.match(await open(dialer, anyOf(A, idIn(A, 'cart'), idIn(A))), { peer: { identity: idIn(A) } })
})

t.test('who answers in a partner’s place must be of it, and one that is expected there', async t => {
  await using both = await partners()
  const { ours, theirs, dialer } = both
  const other = await testAuthority(B)
  for (const identities of [[idIn(A, 'cart')], ['spiffe://a.example/ns/bank/*'], [`${idIn(A)}/*`]])
    await t.rejects(open(dialer, anyOf(A, ...identities)), { code: 'PSTN_PEER_UNEXPECTED' })
  ours.setPartners(asPartner(theirs.authority), asPartner(other))
  await t.rejects(open(dialer, anyOf(B)), { code: 'PSTN_PEER_UNTRUSTED' }, 'another partner’s place')
  await t.rejects(open(dialer, anyOf('c.example')), { code: 'PSTN_PEER_TRUST_DOMAIN' }, 'no partner at all')
  const usurped = asPartner(other, undefined, [theirs.authority.root])
  ours.setPartners(usurped)
  await t.rejects(
    open(dialer, anyOf(B)),
    { code: 'PSTN_PEER_TRUST_DOMAIN' },
    'another name under these roots',
  )
  const toOurselves = ours.dialerTo(ours.server.port)
  ours.setPartners(asPartner(theirs.authority))
  await t.rejects(
    open(toOurselves, anyOf(A)),
    { code: 'PSTN_PEER_UNTRUSTED' },
    'our own in a partner’s place',
  )
  t.equal(await (await open(dialer, anyOf(A))).echo(), 'ping', 'control')
  const cart = anyOf(A, idIn(A, 'cart'))
  await t.rejects(open(dialer, cart), { code: 'PSTN_PEER_UNEXPECTED', message: /sa\/web, not one of .*cart/ })
})

t.test('a mesh that does not know us says so', async t => {
  await using both = await partners()
  const { theirs, dialer } = both
  theirs.setPartners()
  await t.rejects(open(dialer, anyOf(A)), { code: 'PSTN_PEER_TRUST_DOMAIN', message: /refused us/ })
  theirs.setPartners(asPartner(await testAuthority(OURS)))
  await t.rejects(
    open(dialer, anyOf(A)),
    { code: 'PSTN_PEER_UNTRUSTED', message: /refused us/ },
    'other roots',
  )
})

t.test('streams do not share a connection that was made for other expectations', async t => {
  await using both = await partners()
  const { dialer } = both
  const streams = [anyOf(A), anyOf(A), anyOf(A, idIn(A))].map(place => open(dialer, place))
  const connections = new Set((await Promise.all(streams)).map(({ peer }) => peer))
  t.equal(connections.size, 2)
  await t.rejects(open(dialer, anyOf(A, idIn(A, 'cart'))), { code: 'PSTN_PEER_UNEXPECTED' })
})

/** Streams from and to a partner, and from another partner. */
async function connected() {
  const both = await partners()
  const { ours, theirs, dialer, stack } = both
  const bystander = stack.use(await partnerMesh(B))
  bystander.setPartners(asPartner(ours.authority))
  ours.setPartners(asPartner(theirs.authority), asCaller(bystander.authority))
  const port = ours.server.port
  return {
    ...both,
    bystander,
    to: await open(dialer, anyOf(A)),
    from: await open(theirs.dialerTo(port), anyOf(OURS)),
    other: await open(bystander.dialerTo(port), anyOf(OURS)),
  }
}

type Connected = Awaited<ReturnType<typeof connected>>
const ENDS: Readonly<Record<string, (all: Connected) => void>> = {
  'a partner that is removed': ({ ours, bystander }) => ours.setPartners(asCaller(bystander.authority)),
  'a partner whose root is removed': ({ ours, theirs, bystander }) =>
    ours.setPartners(
      asPartner(theirs.authority, undefined, [bystander.authority.root]),
      asCaller(bystander.authority),
    ),
}
for (const [it, change] of Object.entries(ENDS))
  t.test(`${it} loses its connections of either direction at once, and nobody else does`, async t => {
    await using all = await connected()
    const { to, from, other, dialer, ours, theirs } = all
    change(all)
    t.same(await Promise.all([to.over, from.over]), ['cut off', 'cut off'])
    t.equal(await other.echo(), 'ping', 'another partner’s')
    await t.rejects(open(dialer, anyOf(A)), { code: /^PSTN_PEER_(UNTRUSTED|TRUST_DOMAIN)$/ })
    const again = theirs.dialerTo(ours.server.port)
    await t.rejects(open(again, anyOf(OURS)), { code: /^PSTN_PEER_(UNTRUSTED|TRUST_DOMAIN)$/ })
  })

t.test('a root beside the present one, or a change that concerns others, ends nothing', async t => {
  await using all = await connected()
  const { ours, theirs, bystander, to, from, other } = all
  const next = await testAuthority(A)
  const rotating = asPartner(theirs.authority, undefined, [theirs.authority.root, next.root])
  ours.setPartners(rotating, asCaller(bystander.authority))
  for (const { echo } of [to, from, other]) t.equal(await echo(), 'ping', 'a root more')
  ours.setPartners(rotating)
  t.equal(await other.over, 'cut off')
  for (const { echo } of [to, from]) t.equal(await echo(), 'ping', 'another partner’s removal')
})

t.test('whom we dialled must stay among those expected there; who called is not of that place', async t => {
  await using all = await connected()
  const { ours, theirs, bystander, to, from } = all
  ours.setPartners(asPartner(theirs.authority, [idIn(A, 'cart')]), asCaller(bystander.authority))
  t.equal(await to.over, 'cut off')
  t.equal(await from.echo(), 'ping')
})

t.test('a foreign identity is revoked as our own are', async t => {
  await using all = await connected()
  const { ours, dialer, to, from, other } = all
  ours.revoke({ identities: [idIn(A)] })
  t.same(await Promise.all([to.over, from.over]), ['cut off', 'cut off'])
  t.equal(await other.echo(), 'ping')
  t.same(ours.closed, [idIn(A), idIn(A)])
  await t.rejects(open(dialer, anyOf(A)), { code: 'PSTN_PEER_REVOKED' })
})

t.test('a handshake that a change of partners overtakes is held to those of now', async t => {
  const { ours, a } = await oursWithTwoPartners()
  await using _ = ours
  const b = await testAuthority(A)
  for (const [what, before, issuer, after, code] of [
    ['its root was replaced', [asPartner(a)], a, [asPartner(b)], 'PSTN_PEER_UNTRUSTED'],
    ['it was removed', [asPartner(a)], a, [], 'PSTN_PEER_TRUST_DOMAIN'],
    ['it was added, and our CA made its ID', [], ours.authority, [asPartner(a)], 'PSTN_PEER_UNTRUSTED'],
    ['nothing changed', [asPartner(a)], a, [asPartner(a)], 'welcome'],
  ] as const) {
    ours.setPartners(...before)
    await using relay = await haltingRelay(ours.server.port)
    const caller = await issuer.issue({ identity: idIn(A) })
    const said = stranger(relay.port, caller, A)
    await relay.halted
    ours.setPartners(...after)
    relay.release()
    t.equal(await said, code, what)
  }
})

// Chains in which another trust domain's CA has signed: what docs/adr/0011 says of them, by real handshakes.
import type { TlsOptions } from 'node:tls'
import t from 'tap'
import { clientTlsOptions, serverTlsOptions } from '../../../../shared/tls/contexts.ts'
import type { TrustBundle } from '../../../../shared/trust-bundle.ts'
import { type Issued, type TestAuthority, testAuthority } from '../../../support/certificates.ts'
import { meet } from '../../../support/tls-meeting.ts'

const WEST = 'spiffe://west.example/ns/shop/sa/web'
const EAST = 'spiffe://east.example/ns/shop/sa/cart'

const west = await testAuthority('west.example')
const issuer = await west.intermediate()
/** East's root; the name of what it cross-signs is that of west's issuer. */
const eastern = await testAuthority('west.example', 'CN=east.example root')
const crossSigned = await eastern.crossSign(issuer)
const eastBundle: TrustBundle = { trustDomain: 'east.example', roots: [eastern.root] }
const web = await issuer.issue({ identity: WEST })
const cart = await eastern.issue({ identity: EAST })

/** A server of west, met by a client of `from`, who verifies with `bundle`. */
const met = async (bundle: TrustBundle, chain: string, from: Issued, by: Issued = web) => {
  const server: TlsOptions = { ...serverTlsOptions(by.credential(), bundle), key: by.key, cert: chain }
  return (await meet({ server, client: clientTlsOptions(from.credential(), bundle), bundle })).byClient
}

t.test('a chain to the domain’s own root is good, whatever else signed a certificate in it', async t => {
  const client = await issuer.issue({ identity: WEST })
  t.match(await met(west.bundle, web.chain, client), { identity: WEST }, 'control: without')
  t.match(await met(west.bundle, web.chain + crossSigned, client), { identity: WEST })
  const crossSignedFirst = web.leaf + crossSigned + web.chain.slice(web.leaf.length)
  t.equal(
    await met(west.bundle, crossSignedFirst, client),
    'PSTN_PEER_UNTRUSTED',
    'the first that fits is followed',
  )
})

t.test(
  'with the bundle of the domain that cross-signed alone, the leaf of the other one is refused',
  async t => {
    t.equal(
      await met(eastBundle, web.leaf + crossSigned, cart),
      'PSTN_PEER_TRUST_DOMAIN',
      'the chain itself leads there',
    )
    t.equal(await met(eastBundle, web.chain, cart), 'PSTN_PEER_UNTRUSTED')
  },
)

t.test('a domain’s next root, cross-signed by its present one, is good before anybody has it', async t => {
  const next: TestAuthority = await testAuthority('west.example', 'CN=west.example issuer')
  const leaf = await next.issue({ identity: WEST })
  const client = await issuer.issue({ identity: WEST })
  t.equal(await met(west.bundle, leaf.leaf, client, leaf), 'PSTN_PEER_UNTRUSTED', 'control: without')
  t.match(await met(west.bundle, leaf.leaf + (await west.crossSign(next)), client, leaf), { identity: WEST })
})

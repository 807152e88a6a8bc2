// What becomes of a live connection when the root goes that its peer was verified with: docs/adr/0010. Real tunnels, from
// either end.
import t, { type Test } from 'tap'
import { judgeConnectedPeers } from '../../proxy/identify/connected-peers.ts'
import { NO_PARTNERS } from '../../shared/federation/partners.ts'
import { live } from '../../shared/live.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../shared/revocation.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { testAuthority } from '../support/certificates.ts'
import { withDuplex } from '../support/duplex-of.ts'
import { endOf, nextText, TRUST_DOMAIN, tunnelPair } from '../support/tunnel-pair.ts'

const fingerprint = (root: string) => parseCertificate(root).fingerprint256

/** A stream with an echo at its other end, judged at the given end of the tunnel alone. */
async function kept(t: Test, end: 'inbound' | 'outbound') {
  const next = await testAuthority(TRUST_DOMAIN)
  const pair = await tunnelPair({
    onRequest: withDuplex(request => {
      const stream = request.accept()
      stream.on('error', () => {}).pipe(stream)
    }),
  })
  t.teardown(() => pair[Symbol.asyncDispose]())
  const both = { trustDomain: TRUST_DOMAIN, roots: [pair.authority.root, next.root] }
  const trust = live<TrustBundle | undefined>(both)
  const retired = live<readonly string[]>([])
  const nobody = { closePeers: () => {}, sweepPeers: () => [] }
  const ends = { inbound: nobody, outbound: nobody }
  const judged = end === 'inbound' ? { ...ends, inbound: pair.server } : { ...ends, outbound: pair.dialer }
  const stop = judgeConnectedPeers(judged, {
    trusted: { trustDomain: TRUST_DOMAIN, trust, partners: live(NO_PARTNERS) },
    tls: pair.serverTls,
    retired,
    revoked: live(revocationCheck(NOBODY_REVOKED)),
    onRevoked: () => {},
  })
  t.teardown(() => stop[Symbol.dispose]())
  const { stream } = await pair.open()
  const over = endOf(stream)
  const echo = async () => {
    stream.write('ping')
    return nextText(stream)
  }
  t.equal(await echo(), 'ping')
  return { trust, retired, over, echo, old: pair.authority.root, roots: [next.root] }
}

for (const end of ['inbound', 'outbound'] as const) {
  t.test(`${end}: a root that is only gone takes its connections with it`, async t => {
    const { trust, over, roots } = await kept(t, end)
    trust.set({ trustDomain: TRUST_DOMAIN, roots })
    t.equal(await over, 'cut off')
  })

  t.test(`${end}: a root that was replaced in good order leaves them, until it is disgraced`, async t => {
    const { trust, retired, over, echo, old, roots } = await kept(t, end)
    retired.set([fingerprint(old)])
    trust.set({ trustDomain: TRUST_DOMAIN, roots })
    t.equal(await echo(), 'ping')
    trust.set({ trustDomain: TRUST_DOMAIN, roots: [...roots, (await testAuthority(TRUST_DOMAIN)).root] })
    t.equal(await echo(), 'ping', 'and whatever becomes of the bundle afterwards')
    retired.set([])
    t.equal(await over, 'cut off')
  })

  t.test(`${end}: what was said too late brings nothing back`, async t => {
    const { trust, retired, over, old, roots } = await kept(t, end)
    trust.set({ trustDomain: TRUST_DOMAIN, roots })
    retired.set([fingerprint(old)])
    t.equal(await over, 'cut off')
  })
}

// What becomes of a live connection when the root goes that its peer was verified with: docs/adr/0010. Real tunnels, from
// either end.
import t, { type Test } from 'tap'
import { openTrustStore } from '../../proxy/credentials/trust.ts'
import { judgeConnectedPeers } from '../../proxy/identify/connected-peers.ts'
import { NO_PARTNERS } from '../../shared/federation/partners.ts'
import type { FormerRoots } from '../../shared/former-roots.ts'
import { live } from '../../shared/live.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../shared/revocation.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { testAuthority } from '../support/certificates.ts'
import { withDuplex } from '../support/duplex-of.ts'
import { memory, NO_API } from '../support/trust-sources.ts'
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
  const trust = await openTrustStore(NO_API, TRUST_DOMAIN, memory())
  trust.adopt([both])
  const nobody = { closePeers: () => {}, sweepPeers: () => [] }
  const ends = { inbound: nobody, outbound: nobody }
  const judged = end === 'inbound' ? { ...ends, inbound: pair.server } : { ...ends, outbound: pair.dialer }
  const stop = judgeConnectedPeers(judged, {
    trusted: { trustDomain: TRUST_DOMAIN, trust: trust.bundle, partners: live(NO_PARTNERS) },
    tls: pair.serverTls,
    vouching: trust.vouching,
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
  const say = (roots: readonly string[], former: Partial<FormerRoots> = {}) =>
    trust.adopt([{ trustDomain: TRUST_DOMAIN, roots }], { retired: [], revoked: [], ...former })
  return { say, over, echo, old: pair.authority.root, roots: [next.root] }
}

for (const end of ['inbound', 'outbound'] as const) {
  t.test(`${end}: a root that is only gone takes its connections with it`, async t => {
    const { say, over, roots } = await kept(t, end)
    say(roots)
    t.equal(await over, 'cut off')
  })

  t.test(`${end}: a root that was replaced in good order leaves them, until it is disgraced`, async t => {
    const { say, over, echo, old, roots } = await kept(t, end)
    const retired = [fingerprint(old)]
    say(roots, { retired })
    t.equal(await echo(), 'ping')
    say([...roots, (await testAuthority(TRUST_DOMAIN)).root], { retired })
    t.equal(await echo(), 'ping', 'and whatever becomes of the bundle afterwards')
    say([...roots, old])
    t.equal(await echo(), 'ping', 'also where a replica that is behind has not heard of it yet')
    say(roots, { revoked: retired })
    t.equal(await over, 'cut off')
  })

  t.test(`${end}: what was said too late brings nothing back`, async t => {
    const { say, over, old, roots } = await kept(t, end)
    say(roots)
    say(roots, { retired: [fingerprint(old)] })
    t.equal(await over, 'cut off')
  })
}

// SNI chooses whose roots a caller is verified with, and says afterwards of whom it claims to be. Who could say two names, one to be
// verified by and one to be known by, would speak for our own workloads with a partner's CA.
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { judgeConnectedPeers } from '../../proxy/identify/connected-peers.ts'
import { identifyPeers, tunnelTls } from '../../proxy/identify/tunnel-tls.ts'
import type { TunnelTls } from '../../proxy/tunnel/interface.ts'
import { listenTunnel } from '../../proxy/tunnel/server.ts'
import { systemClock } from '../../shared/clock.ts'
import { NO_PARTNERS } from '../../shared/federation/partners.ts'
import { live, mapped } from '../../shared/live.ts'
import { NOBODY_REVOKED, revocationCheck } from '../../shared/revocation.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { type TestAuthority, testAuthority } from '../support/certificates.ts'
import { asPartner, idIn, partnerMesh, stranger } from '../support/partner-mesh.ts'
import { sayTwoNames } from '../support/two-hellos.ts'

const [OURS, A] = ['ours.example', 'a.example']

t.test('whoever says another name in a second hello is nobody of ours', async t => {
  await using ours = await partnerMesh(OURS)
  const a = await testAuthority(A)
  ours.setPartners(asPartner(a))
  const answerTo = async (issuer: TestAuthority, identity: string, ...names: [string, string]) => {
    const over = new AbortController()
    const leaf = await issuer.issue({ identity: idIn(identity) })
    const known = ours.served.length + ours.refused.length
    const directory = t.testdir()
    const said = sayTwoNames(ours.server.port, leaf, names, { directory, signal: over.signal })
    while (ours.served.length + ours.refused.length === known) await setImmediate()
    over.abort()
    t.ok((await said) >= 2, 'two hellos')
    return ours.served.length
  }
  t.equal(await answerTo(ours.authority, OURS, OURS, OURS), 1, 'control: one of ours who asks twice')
  for (const names of [
    [A, OURS],
    [OURS, A],
    [OURS, OURS],
    [A, A],
  ] as const)
    t.equal(await answerTo(a, OURS, ...names), 1, `an ID of ours by a partner’s CA: ${names.join(', then ')}`)
  t.same(ours.served, [idIn(OURS)])
})

t.test(
  'a chain of other roots than those it was verified with is refused from the first handshake on',
  async t => {
    const [ours, a] = await Promise.all([testAuthority(OURS), testAuthority(A)])
    const trusted = {
      trustDomain: OURS,
      trust: live<TrustBundle | undefined>(ours.bundle),
      partners: live(NO_PARTNERS),
    }
    const credential = (await ours.issue({ identity: idIn(OURS) })).credential()
    // As if the second name had counted: verified with a partner's roots, known as one of ours.
    const tls = live<TunnelTls | undefined>(tunnelTls(credential, a.bundle))
    await using server = await listenTunnel({
      host: '127.0.0.1',
      port: 0,
      tls,
      identify: identifyPeers(trusted, systemClock),
      clock: systemClock,
      onRequest: request => void request.accept().end(),
      onRefused: () => {},
    })
    const forged = await a.issue({ identity: idIn(OURS) })
    t.equal(await stranger(server.port, forged), 'welcome', 'control: nobody judges yet')
    using _ = judgeConnectedPeers(
      { inbound: server, outbound: { closePeers: () => {}, sweepPeers: () => [] } },
      {
        ...{ trusted, tls },
        vouching: mapped(trusted.trust, bundle => bundle?.roots ?? []),
        revoked: live(revocationCheck(NOBODY_REVOKED)),
        onRevoked: () => {},
      },
    )
    t.equal(await stranger(server.port, forged), 'PSTN_PEER_UNTRUSTED')
  },
)

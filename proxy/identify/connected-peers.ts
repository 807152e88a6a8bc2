// Whoever is connected was identified with what was known then. When a trust bundle, the list of revocations or this pod's
// own identity changes, those who would not come in any more are closed at once, and nobody else. But a root that was replaced
// in good order takes nobody with it (docs/adr/0010).
import type { Partners } from '../../shared/federation/partners.ts'
import type { Live } from '../../shared/live.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { Peer, TunnelDialer, TunnelServer, TunnelTls } from '../tunnel/interface.ts'
import { createAnchorage } from './anchor.ts'
import { notRevoked } from './revoked.ts'
import type { Trusted } from './trusted.ts'

export type ConnectedPeers = {
  readonly inbound: Pick<TunnelServer, 'closePeers' | 'sweepPeers'>
  readonly outbound: Pick<TunnelDialer, 'closePeers' | 'sweepPeers'>
}

export type IdentityFacts = {
  readonly trusted: Trusted
  readonly tls: Live<TunnelTls | undefined>
  /** Our own domain's roots, and those that were replaced in good order: by which a live connection may have been let in. */
  readonly vouching: Live<readonly string[]>
  readonly revoked: Live<RevocationCheck>
  /** Peers whose connections were closed because they are revoked now. */
  onRevoked(direction: keyof ConnectedPeers, peers: readonly Peer[]): void
}

export function judgeConnectedPeers(
  { inbound, outbound }: ConnectedPeers,
  { trusted, tls, vouching, revoked, onRevoked }: IdentityFacts,
): Disposable {
  const { trustDomain, partners } = trusted
  const anchoredIn = createAnchorage()
  const untrustPeers = () => {
    const own = { trustDomain, roots: vouching.get() }
    const met = partners.get()
    const isAnchored = anchoredIn(named => (named === trustDomain ? own : met.bundleOf(named)))
    for (const end of [inbound, outbound]) end.closePeers(isAnchored, 'PSTN_PEER_UNTRUSTED')
  }
  const followPartners = ({ expects }: Partners) => {
    untrustPeers()
    // Whoever is dialled was expected at that address then.
    const isExpected = ({ trustDomain: theirs, identity, address }: Peer) =>
      theirs === trustDomain || expects(theirs, identity, address)
    outbound.sweepPeers(isExpected, 'PSTN_PEER_UNEXPECTED')
  }
  const revokePeers = (check: RevocationCheck) => {
    const keep = notRevoked(check)
    onRevoked('inbound', inbound.sweepPeers(keep, 'PSTN_PEER_REVOKED'))
    onRevoked('outbound', outbound.sweepPeers(keep, 'PSTN_PEER_REVOKED'))
  }
  let hadIdentity = tls.get() !== undefined
  const followIdentity = (own: TunnelTls | undefined) => {
    if ((own !== undefined) === hadIdentity) return
    hadIdentity = own !== undefined
    if (hadIdentity) return untrustPeers()
    // Taken back by whoever gave it: what was opened with it ends too.
    for (const end of [inbound, outbound]) end.closePeers(() => false, 'PSTN_NOT_READY')
  }
  // Whoever comes is held to it from the beginning: SNI, by which a TLS context is chosen, may be another one in the end.
  untrustPeers()
  const stops = [
    vouching.subscribe(untrustPeers),
    partners.subscribe(followPartners),
    revoked.subscribe(revokePeers),
    tls.subscribe(followIdentity),
  ]
  return {
    [Symbol.dispose]: () => {
      for (const stop of stops) stop()
    },
  }
}

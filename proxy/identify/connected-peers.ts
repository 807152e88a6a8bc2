// Whoever is connected was identified with what was known then. When the trust bundle, the list of revocations or this pod's
// own identity changes, those who would not come in any more are closed at once, and nobody else.
import type { Live } from '../../shared/live.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { Peer, TunnelDialer, TunnelServer, TunnelTls } from '../tunnel/interface.ts'
import { anchoredIn } from './anchor.ts'
import { notRevoked } from './revoked.ts'

export type ConnectedPeers = {
  readonly inbound: Pick<TunnelServer, 'closePeers' | 'sweepPeers'>
  readonly outbound: Pick<TunnelDialer, 'closePeers' | 'sweepPeers'>
}

export type IdentityFacts = {
  readonly trustDomain: string
  readonly tls: Live<TunnelTls | undefined>
  readonly trust: Live<TrustBundle | undefined>
  readonly revoked: Live<RevocationCheck>
  /** Peers whose connections were closed because they are revoked now. */
  onRevoked(direction: keyof ConnectedPeers, peers: readonly Peer[]): void
}

export function judgeConnectedPeers(
  { inbound, outbound }: ConnectedPeers,
  { trustDomain, tls, trust, revoked, onRevoked }: IdentityFacts,
): Disposable {
  const untrustPeers = () => {
    const keep = anchoredIn(trust.get() ?? { trustDomain, roots: [] })
    for (const end of [inbound, outbound]) end.closePeers(keep, 'PSTN_PEER_UNTRUSTED')
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
  const stops = [trust.subscribe(untrustPeers), revoked.subscribe(revokePeers), tls.subscribe(followIdentity)]
  return {
    [Symbol.dispose]: () => {
      for (const stop of stops) stop()
    },
  }
}

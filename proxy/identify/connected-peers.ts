// Whoever is connected was identified with what was known then. When a trust bundle, the list of revocations or this pod's
// own identity changes, those who would not come in any more are closed at once, and nobody else. But a root that was replaced
// in good order takes nobody with it (docs/adr/0010).
import type { Partners } from '../../shared/federation/partners.ts'
import type { Live } from '../../shared/live.ts'
import type { RevocationCheck } from '../../shared/revocation.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import type { Peer, TunnelDialer, TunnelServer, TunnelTls } from '../tunnel/interface.ts'
import { anchoredIn } from './anchor.ts'
import { notRevoked } from './revoked.ts'
import type { Trusted } from './trusted.ts'

export type ConnectedPeers = {
  readonly inbound: Pick<TunnelServer, 'closePeers' | 'sweepPeers'>
  readonly outbound: Pick<TunnelDialer, 'closePeers' | 'sweepPeers'>
}

export type IdentityFacts = {
  readonly trusted: Trusted
  readonly tls: Live<TunnelTls | undefined>
  /** Fingerprints of roots that were replaced in good order. */
  readonly retired: Live<readonly string[]>
  readonly revoked: Live<RevocationCheck>
  /** Peers whose connections were closed because they are revoked now. */
  onRevoked(direction: keyof ConnectedPeers, peers: readonly Peer[]): void
}

export function judgeConnectedPeers(
  { inbound, outbound }: ConnectedPeers,
  { trusted, tls, retired, revoked, onRevoked }: IdentityFacts,
): Disposable {
  const { trustDomain, trust, partners } = trusted
  const vouching = vouchingRoots()
  const untrustPeers = () => {
    const own = { trustDomain, roots: vouching(trust.get()?.roots ?? [], retired.get()) }
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
    trust.subscribe(untrustPeers),
    retired.subscribe(untrustPeers),
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

/**
 * By which roots a live connection may have been let in: those in force, and of those that were in force since this process
 * began, the ones that were replaced in good order. Nobody new comes in by the latter.
 */
function vouchingRoots() {
  const known = new Map<string, string>()
  return (inForce: readonly string[], retired: readonly string[]): readonly string[] => {
    const present = inForce.map(root => [parseCertificate(root).fingerprint256, root] as const)
    const stays = new Set([...present.map(([fingerprint]) => fingerprint), ...retired])
    for (const fingerprint of known.keys()) if (!stays.has(fingerprint)) known.delete(fingerprint)
    for (const [fingerprint, root] of present) known.set(fingerprint, root)
    return [...known.values()]
  }
}

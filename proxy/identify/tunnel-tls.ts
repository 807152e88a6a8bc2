// Identify: what the tunnel shows of this pod, and who is at the other end. Both depend on values that change while the
// process lives, so that the tunnel is given a new TunnelTls with each credential and each trust bundle.
import type { Clock } from '../../shared/clock.ts'
import { secureContext } from '../../shared/tls/contexts.ts'
import { verifyPeer } from '../../shared/tls/peer-verifier.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { Credential } from '../credentials/credential.ts'
import type { IdentifyPeer, TunnelTls } from '../tunnel/interface.ts'
import { bundleFor, type Trusted } from './trusted.ts'

/** `bundle` is that of our own trust domain; each partner is met with its own, and never with both. */
export const tunnelTls = (
  credential: Credential,
  bundle: TrustBundle,
  partners: readonly TrustBundle[] = [],
): TunnelTls => ({
  generation: credential.generation,
  notAfter: credential.notAfter,
  context: secureContext(credential, bundle),
  partners: new Map(
    partners.map(partner => [
      partner.trustDomain,
      { context: secureContext(credential, partner), servername: bundle.trustDomain },
    ]),
  ),
})

/**
 * The mandatory check of both sides of the tunnel, to be made before any byte. Without a bundle nobody is trusted. A
 * handshake that a change of the bundles overtook was verified with others: connected-peers.ts holds it to those of now.
 */
export const identifyPeers =
  (trusted: Trusted, clock: Clock): IdentifyPeer =>
  (socket, trustDomain) =>
    verifyPeer(socket, { bundle: bundleFor(trusted, trustDomain), now: clock.now() })

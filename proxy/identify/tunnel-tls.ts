// Identify: what the tunnel shows of this pod, and who is at the other end. Both depend on values that change while the
// process lives, so that the tunnel is given a new TunnelTls with each credential and each trust bundle.
import type { Clock } from '../../shared/clock.ts'
import type { Live } from '../../shared/live.ts'
import { secureContext } from '../../shared/tls/contexts.ts'
import { verifyPeer } from '../../shared/tls/peer-verifier.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { Credential } from '../credentials/credential.ts'
import type { IdentifyPeer, TunnelTls } from '../tunnel/interface.ts'

/** `bundle` is that of our own trust domain: peers of another one are not met before federation. */
export const tunnelTls = (credential: Credential, bundle: TrustBundle): TunnelTls => ({
  generation: credential.generation,
  notAfter: credential.notAfter,
  context: secureContext(credential, bundle),
})

/** The mandatory check of both sides of the tunnel, to be made before any byte. Without a bundle nobody is trusted. */
export const identifyPeers =
  (trustDomain: string, trust: Live<TrustBundle | undefined>, clock: Clock): IdentifyPeer =>
  socket =>
    verifyPeer(socket, { bundle: trust.get() ?? { trustDomain, roots: [] }, now: clock.now() })

// Identify: who calls without a sidecar, on a port where this one terminates TLS. The same as in a tunnel, whatever is spoken:
// an SVID of our own trust domain that nobody has revoked.
import type { Clock } from '../../shared/clock.ts'
import type { Live } from '../../shared/live.ts'
import { type RevocationCheck, refuseRevoked } from '../../shared/revocation.ts'
import { verifyBearer } from '../../shared/tls/peer-verifier.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { IdentifyCaller } from '../terminate/terminator.ts'

export type CallerFacts = {
  readonly trustDomain: string
  /** Undefined until there is one, and then nobody is trusted. */
  readonly trust: Live<TrustBundle | undefined>
  readonly revoked: Live<RevocationCheck>
  readonly clock: Clock
}

export const identifyCallers =
  ({ trustDomain, trust, revoked, clock }: CallerFacts): IdentifyCaller =>
  (socket, { address }) => {
    const bundle = trust.get() ?? { trustDomain, roots: [] }
    const bearer = verifyBearer(socket, { bundle, now: clock.now() })
    refuseRevoked(revoked.get(), bearer)
    return { ...bearer, address }
  }

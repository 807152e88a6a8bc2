// Identify: who calls without a sidecar, on a port where this one terminates TLS. The same as in a tunnel, whatever is spoken:
// an SVID of our own trust domain that nobody has revoked; or a client that the port knows without SPIFFE.
import type { Clock } from '../../shared/clock.ts'
import type { PartnerClients } from '../../shared/federation/model.ts'
import type { Live } from '../../shared/live.ts'
import { type RevocationCheck, refuseRevoked } from '../../shared/revocation.ts'
import { verifyBearer } from '../../shared/tls/peer-verifier.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { IdentifyCaller } from '../terminate/terminator.ts'
import { clientsOf, verifyClient } from './partner-clients.ts'

export type CallerFacts = {
  readonly trustDomain: string
  /** Undefined until there is one, and then nobody is trusted. */
  readonly trust: Live<TrustBundle | undefined>
  /** Those that name the port. */
  readonly clientsAt: (port: number) => readonly PartnerClients[]
  readonly revoked: Live<RevocationCheck>
  readonly clock: Clock
}

export const identifyCallers =
  ({ trustDomain, trust, clientsAt, revoked, clock }: CallerFacts): IdentifyCaller =>
  (socket, { address, port }) => {
    const bundle = trust.get() ?? { trustDomain, roots: [] }
    const clients = clientsOf(socket, bundle.roots, clientsAt(port))
    const bearer = clients
      ? verifyClient(socket, clients)
      : verifyBearer(socket, { bundle, now: clock.now() })
    refuseRevoked(revoked.get(), bearer)
    return { ...bearer, address }
  }

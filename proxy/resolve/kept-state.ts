// What stays of the last state where the injector is of an older version and does not speak of it: silence lifts nothing.
import type { State } from '../../shared/control/messages.ts'

/**
 * Revocations, whose tokens are believed (no policy takes the place of a 401, and claims in headers would be the caller's own), hosts outside, partners: where one answers would be dialled in plaintext. Ports with TLS, which would take
 * plaintext: whoever speaks of partners speaks of those too, and means none by leaving them out.
 */
export function withKept(next: State, former: State | undefined): State {
  const revoked = next.revoked ?? former?.revoked
  const outside = next.outside ?? former?.outside
  const requestAuthentication = next.requestAuthentication ?? former?.requestAuthentication
  const partners = next.partners ?? former?.partners
  return {
    ...next,
    ...(former && !next.partners && withTlsPorts(next, former)),
    ...(revoked && { revoked }),
    ...(outside && { outside }),
    ...(requestAuthentication && { requestAuthentication }),
    ...(partners && { partners }),
  }
}

function withTlsPorts(next: State, former: State): Partial<State> {
  const { policy, partnerClients = former.partnerClients } = next
  const { mode } = policy
  const tls = { ...former.policy.mode.tls, ...mode.tls }
  const ports = Object.keys(tls)
  if (ports.length === 0) return {}
  const strict = Object.fromEntries(ports.map(port => [port, 'strict' as const]))
  const kept = { ...mode, ports: { ...mode.ports, ...strict }, tls }
  return { policy: { ...policy, mode: kept }, ...(partnerClients && { partnerClients }) }
}

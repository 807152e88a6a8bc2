// From what has an address to how it is reached: through the tunnel of its sidecar, in plaintext, or not at all.
import { authorityOf } from '../../shared/addresses.ts'
import type { AddressEntry, Endpoint, MeshPod } from '../../shared/control/messages.ts'
import type { Code } from '../../shared/errors.ts'
import type { Disputed, PartnerPlace } from '../../shared/federation/partners.ts'
import type { ProxySettings } from '../../shared/injection/settings.ts'
import type { OutsideHost, Place } from '../../shared/policy/outside-host.ts'
import { PORTS } from '../../shared/ports.ts'
import type { TunnelTarget } from '../tunnel/interface.ts'

export type Route =
  | { readonly kind: 'tunnel'; readonly target: Omit<TunnelTarget, 'headers'> }
  | { readonly kind: 'plain'; readonly address: string; readonly port: number }
  /** With TLS, as declared for a host outside the mesh. */
  | {
      readonly kind: 'originate'
      readonly address: string
      readonly port: number
      readonly host: OutsideHost
    }

export type Refusal = { readonly kind: 'refused'; readonly code: Code; readonly reason: string }

export type Outbound = ProxySettings['outbound']

/** How what has no sidecar may be reached. */
export type Beyond = {
  readonly outbound: Outbound
  /** Undefined: nobody has declared it. */
  declared(reached: Place): OutsideHost | Refusal | undefined
  /** Which partner has this address. */
  partner(address: string): PartnerPlace | Disputed | undefined
}

/** A Service is no single route: see balancer.ts. */
export type SingleEntry = Exclude<AddressEntry, { kind: 'service' }>

/** The route to `port` of what the directory says an address is. */
export function routeOf(entry: SingleEntry, port: number, beyond: Beyond): Route | Refusal {
  const { address } = entry
  switch (entry.kind) {
    case 'mesh':
      return routeTo({ address, port, mesh: entry.pod }, beyond)
    case 'plain':
      return routeTo({ address, port }, beyond)
    case 'unknown':
      return refuse('PSTN_ADDRESS_UNKNOWN', `nothing live is known at ${authorityOf(address, port)}`)
    case 'ambiguous':
      return refuse('PSTN_ADDRESS_AMBIGUOUS', `pods ${entry.uids.join(', ')} all claim ${address}`)
  }
}

export const routeTo = ({ address, port, mesh }: Endpoint, beyond: Beyond): Route | Refusal =>
  mesh === undefined || !isCaptured(mesh, port)
    ? withoutMesh({ address, port }, beyond)
    : { kind: 'tunnel', target: { address, expected: mesh, authority: authorityOf(address, port) } }

/** To an address outside the cluster, or one without a sidecar. What is declared there is encrypted, as `require` asks. */
export function withoutMesh(
  { address, port }: Place,
  { outbound, declared, partner }: Beyond,
): Route | Refusal {
  const place = partner(address)
  if (place) return toPartner({ address, port }, place)
  const found = declared({ address, port })
  if (found && 'kind' in found) return found
  if (found) return { kind: 'originate', address, port, host: found }
  return outbound === 'require'
    ? refuse('PSTN_OUTBOUND_REQUIRED', `${authorityOf(address, port)} is not behind a sidecar`)
    : { kind: 'plain', address, port }
}

/** To where a partner is: through its tunnel whatever the port, since nothing else would prove who answers. */
function toPartner({ address, port }: Place, place: PartnerPlace | Disputed): Route | Refusal {
  const authority = authorityOf(address, port)
  if (place.kind === 'partner') return { kind: 'tunnel', target: { address, expected: place, authority } }
  return refuse('PSTN_ADDRESS_AMBIGUOUS', `${place.trustDomains.join(' and ')} both have ${address}`)
}

/** Nothing of the peer's capture stands before these: its status port is for scrapers, in the mesh or not. */
const isCaptured = ({ skipInboundPorts }: MeshPod, port: number): boolean =>
  port !== PORTS.status && !skipInboundPorts.includes(port)

export const refuse = (code: Code, reason: string): Refusal => ({ kind: 'refused', code, reason })

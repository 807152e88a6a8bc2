// The balancers of the Services that the application uses: made on first use, brought up to date when the directory's
// entry is another one, gone with the address.
import { authorityOf } from '../../shared/addresses.ts'
import type { ServiceEntry, ServicePort } from '../../shared/control/messages.ts'
import { Balancer, type Candidate, type HealthEvent } from './balancer.ts'
import { type Outbound, type Refusal, type Route, refuse, routeTo } from './route.ts'

export type EndpointEvent = HealthEvent & { readonly service: string }

export type ServicesOptions = {
  readonly outbound: Outbound
  readonly now: () => number
  readonly random: () => number
  readonly observe: (event: EndpointEvent) => void
}

export type Services = {
  /** What balances `port` now, or why there is nothing to choose from. `zone` is this pod's own. */
  balancer(entry: ServiceEntry, port: number, zone: string | undefined): Balancer | Refusal
  forget(address: string): void
}

/** `entry` and `zone` are what the balancers were last brought up to date with. */
type Used = { entry: ServiceEntry; zone: string | undefined; readonly balancers: Map<number, Balancer> }

export function createServices({ outbound, now, random, observe }: ServicesOptions): Services {
  const used = new Map<string, Used>()

  const balance = (service: string): Balancer =>
    new Balancer({ now, random, observe: event => observe({ ...event, service }) })

  const upToDate = (entry: ServiceEntry, zone: string | undefined): Used => {
    const found = used.get(entry.address)
    if (found?.entry === entry && found.zone === zone) return found
    const balancers = new Map<number, Balancer>()
    for (const [port, balancer] of found?.balancers ?? []) {
      const next = found?.entry.service === entry.service ? portOf(entry, port) : undefined
      balancer.update(next ? candidates(next, zone, outbound) : [])
      if (next) balancers.set(port, balancer)
    }
    const present = { entry, zone, balancers }
    used.set(entry.address, present)
    return present
  }

  return {
    balancer: (entry, port, zone) => {
      const { balancers } = upToDate(entry, zone)
      const existing = balancers.get(port)
      if (existing && existing.size > 0) return existing
      const service = portOf(entry, port)
      if (!service || service.endpoints.length === 0) {
        const where = authorityOf(entry.address, port)
        return refuse('PSTN_NO_ENDPOINT', `${entry.service} has no ready endpoint for ${where}`)
      }
      const made = balance(entry.service)
      made.update(candidates(service, zone, outbound))
      if (made.size === 0) {
        return refuse('PSTN_OUTBOUND_REQUIRED', `no endpoint of ${entry.service} is behind a sidecar`)
      }
      balancers.set(port, made)
      return made
    },
    forget: address => {
      for (const balancer of used.get(address)?.balancers.values() ?? []) balancer.update([])
      used.delete(address)
    },
  }
}

const portOf = ({ ports }: ServiceEntry, port: number): ServicePort | undefined =>
  ports.find(candidate => candidate.port === port)

/** Where mesh is required, only endpoints that are in it. */
function candidates(
  { endpoints }: ServicePort,
  zone: string | undefined,
  outbound: Outbound,
): readonly Candidate[] {
  return endpoints.flatMap(endpoint => {
    const route: Route | Refusal = routeTo(endpoint, outbound)
    if (route.kind === 'refused') return []
    const where = authorityOf(endpoint.address, endpoint.port)
    const key = `${where} ${endpoint.mesh?.uid ?? ''}`
    return [{ key, endpoint: where, isNear: zone !== undefined && endpoint.zone === zone, route }]
  })
}

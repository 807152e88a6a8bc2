// The balancers of the Services that the application uses: made on first use, brought up to date when the directory's
// entry is another one, gone with the address.
import { authorityOf } from '../../shared/addresses.ts'
import type { ServiceEntry, ServicePort } from '../../shared/control/messages.ts'
import { Balancer, type Candidate, type HealthEvent } from './balancer.ts'
import type { Outside } from './outside.ts'
import { type Beyond, type Refusal, type Route, refuse, routeTo } from './route.ts'

export type EndpointEvent = HealthEvent & { readonly service: string }

export type ServicesOptions = {
  readonly outside: Pick<Outside, 'beyond' | 'generation'>
  readonly now: () => number
  readonly random: () => number
  readonly observe: (event: EndpointEvent) => void
}

export type Services = {
  /** What balances `port` now, or why there is nothing to choose from. `zone` is this pod's own. */
  balancer(entry: ServiceEntry, port: number, zone: string | undefined): Balancer | Refusal
  forget(address: string): void
}

/** `balancers` are of one entry and zone, and of what was declared outside the mesh then. */
type Used = {
  readonly entry: ServiceEntry
  readonly zone: string | undefined
  readonly generation: number
  readonly balancers: Map<number, Balancer>
}

export function createServices({ outside, now, random, observe }: ServicesOptions): Services {
  const used = new Map<string, Used>()

  const balance = (service: string): Balancer =>
    new Balancer({ now, random, observe: event => observe({ ...event, service }) })

  const membersOf = ({ address }: ServiceEntry, service: ServicePort, zone: string | undefined) =>
    members(service, zone, outside.beyond({ address, port: service.port }))

  const upToDate = (entry: ServiceEntry, zone: string | undefined): Used => {
    const found = used.get(entry.address)
    const { generation } = outside
    if (found?.entry === entry && found.zone === zone && found.generation === generation) return found
    const balancers = new Map<number, Balancer>()
    for (const [port, balancer] of found?.balancers ?? []) {
      const next = found?.entry.service === entry.service ? portOf(entry, port) : undefined
      balancer.update(next ? membersOf(entry, next, zone).candidates : [])
      if (next) balancers.set(port, balancer)
    }
    const present = { entry, zone, generation, balancers }
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
      const { candidates, refused } = membersOf(entry, service, zone)
      made.update(candidates)
      if (made.size === 0) {
        return refused ?? refuse('PSTN_NO_ENDPOINT', `${entry.service} has no endpoint`)
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

type Members = { readonly candidates: readonly Candidate[]; readonly refused?: Refusal }

/** Those that may be dialled, and why one may not: where mesh is required, only endpoints that are in it. */
function members({ endpoints }: ServicePort, zone: string | undefined, beyond: Beyond): Members {
  const candidates: Candidate[] = []
  let refused: Refusal | undefined
  for (const endpoint of endpoints) {
    const route: Route | Refusal = routeTo(endpoint, beyond)
    if (route.kind === 'refused') {
      refused = route
      continue
    }
    const where = authorityOf(endpoint.address, endpoint.port)
    const key = `${where} ${endpoint.mesh?.uid ?? ''}`
    candidates.push({ key, endpoint: where, isNear: zone !== undefined && endpoint.zone === zone, route })
  }
  return { candidates, ...(refused && { refused }) }
}

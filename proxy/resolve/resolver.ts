// Resolve: from an original destination to a route, or to a Service's endpoints, without a guess. Outside the cluster's
// prefixes is not mesh; inside, the directory says what an address is, and what it does not know is refused.
import { type Cidr, cidrsContain, parseCidr } from '../../shared/addresses.ts'
import type { State } from '../../shared/control/messages.ts'
import type { EndSignal } from '../../shared/ending.ts'
import { PosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { Directory } from './directory.ts'
import type { Resolution } from './opening.ts'
import type { Outside } from './outside.ts'
import { type Refusal, type Route, routeOf, withoutMesh } from './route.ts'
import type { Services } from './services.ts'

export type Resolver = {
  /** @throws PosternError the refusal's code, or PSTN_NOT_READY before the first state. */
  resolve(address: string, port: number, signal: EndSignal): Promise<Resolution>
}

export type ResolverOptions = {
  readonly state: Live<State | undefined>
  readonly directory: Directory
  readonly services: Services
  readonly outside: Pick<Outside, 'beyond'>
}

export function createResolver({ state, directory, services, outside }: ResolverOptions): Resolver {
  let inside = prefixesOf(state.get())
  let zone = state.get()?.zone
  state.subscribe(next => {
    inside = prefixesOf(next)
    zone = next?.zone
  })
  directory.onForgotten(services.forget)
  return {
    resolve: async (address, port, signal) => {
      if (!inside) throw new PosternError('PSTN_NOT_READY', 'the cluster’s prefixes are not known yet')
      const beyond = outside.beyond({ address, port })
      if (!inside(address)) return single(withoutMesh({ address, port }, beyond))
      const entry = await directory.lookup(address, signal)
      if (entry.kind !== 'service') return single(routeOf(entry, port, beyond))
      const balancer = services.balancer(entry, port, zone)
      if ('kind' in balancer) throw refusal(balancer)
      return { kind: 'service', balancer, stickyMs: (entry.affinitySeconds ?? 0) * 1000 }
    },
  }
}

function single(route: Route | Refusal): Resolution {
  if (route.kind === 'refused') throw refusal(route)
  return { kind: 'single', route }
}

const refusal = ({ code, reason }: Refusal): PosternError => new PosternError(code, reason)

function prefixesOf(state: State | undefined): ((address: string) => boolean) | undefined {
  if (!state) return undefined
  return cidrsContain(state.prefixes.map(parseCidr).filter((prefix): prefix is Cidr => prefix !== undefined))
}

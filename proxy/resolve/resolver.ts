// Resolve: from an original destination to a route, without a guess. Outside the cluster's prefixes is not mesh;
// inside, the directory says what an address is, and what it does not know is refused.
import { authorityOf, type Cidr, cidrsContain, parseCidr } from '../../shared/addresses.ts'
import type { AddressEntry, Endpoint, MeshPod, State } from '../../shared/control/messages.ts'
import { type Code, PosternError } from '../../shared/errors.ts'
import type { ProxySettings } from '../../shared/injection/settings.ts'
import type { Live } from '../../shared/live.ts'
import { PORTS } from '../../shared/ports.ts'
import type { TunnelTarget } from '../tunnel/interface.ts'
import type { Directory } from './directory.ts'

export type Route =
  | { readonly kind: 'tunnel'; readonly target: Omit<TunnelTarget, 'headers'> }
  | { readonly kind: 'plain'; readonly address: string; readonly port: number }

export type Refusal = { readonly kind: 'refused'; readonly code: Code; readonly reason: string }

export type Choice = {
  readonly outbound: ProxySettings['outbound']
  /** In [0, 1). */
  readonly random: () => number
  /** Connections that this sidecar has open to an endpoint's address. */
  readonly load: (address: string) => number
}

/** The route to `port` of what the directory says an address is. */
export function choose(entry: AddressEntry, port: number, choice: Choice): Route | Refusal {
  const where = authorityOf(entry.address, port)
  switch (entry.kind) {
    case 'mesh':
      return toPod({ address: entry.address, port, mesh: entry.pod }, choice)
    case 'plain':
      return toPod({ address: entry.address, port }, choice)
    case 'service': {
      const endpoints = entry.ports.find(candidate => candidate.port === port)?.endpoints ?? []
      const endpoint = lighterOfTwo(endpoints, choice)
      return endpoint
        ? toPod(endpoint, choice)
        : refuse('PSTN_NO_ENDPOINT', `${entry.service} has no ready endpoint for ${where}`)
    }
    case 'unknown':
      return refuse('PSTN_ADDRESS_UNKNOWN', `nothing live is known at ${where}`)
    case 'ambiguous':
      return refuse('PSTN_ADDRESS_AMBIGUOUS', `pods ${entry.uids.join(', ')} all claim ${entry.address}`)
  }
}

/** To an address outside the cluster, or one without a sidecar. */
export function plain(
  address: string,
  port: number,
  { outbound }: Pick<Choice, 'outbound'>,
): Route | Refusal {
  return outbound === 'require'
    ? refuse('PSTN_OUTBOUND_REQUIRED', `${authorityOf(address, port)} is not behind a sidecar`)
    : { kind: 'plain', address, port }
}

/** Nothing of the peer's capture stands before these: its status port is for scrapers, in the mesh or not. */
const isCaptured = ({ skipInboundPorts }: MeshPod, port: number): boolean =>
  port !== PORTS.status && !skipInboundPorts.includes(port)

const toPod = ({ address, port, mesh }: Endpoint, choice: Choice): Route | Refusal =>
  mesh === undefined || !isCaptured(mesh, port)
    ? plain(address, port, choice)
    : { kind: 'tunnel', target: targetOf(address, port, mesh) }

const targetOf = (address: string, port: number, pod: MeshPod): Omit<TunnelTarget, 'headers'> => ({
  address,
  pod,
  authority: authorityOf(address, port),
})

/** Power of two choices: nearly as even as asking all, and no herd runs to the one that looks idle. */
function lighterOfTwo(endpoints: readonly Endpoint[], { random, load }: Choice): Endpoint | undefined {
  const pick = (below: number) => Math.floor(random() * below)
  const first = pick(endpoints.length)
  const one = endpoints[first]
  if (!one || endpoints.length === 1) return one
  const other = endpoints[(first + 1 + pick(endpoints.length - 1)) % endpoints.length]
  return other && load(other.address) < load(one.address) ? other : one
}

const refuse = (code: Code, reason: string): Refusal => ({ kind: 'refused', code, reason })

export type Resolver = {
  /** @throws PosternError the refusal's code, or PSTN_NOT_READY before the first state. */
  resolve(address: string, port: number, signal: AbortSignal): Promise<Route>
}

export type ResolverOptions = Choice & {
  readonly state: Live<State | undefined>
  readonly directory: Directory
}

export function createResolver({ state, directory, ...choice }: ResolverOptions): Resolver {
  let inside = prefixesOf(state.get())
  state.subscribe(next => {
    inside = prefixesOf(next)
  })
  return {
    resolve: async (address, port, signal) => {
      if (!inside) throw new PosternError('PSTN_NOT_READY', 'the cluster’s prefixes are not known yet')
      const route = inside(address)
        ? choose(await directory.lookup(address, signal), port, choice)
        : plain(address, port, choice)
      if (route.kind === 'refused') throw new PosternError(route.code, route.reason)
      return route
    },
  }
}

function prefixesOf(state: State | undefined): ((address: string) => boolean) | undefined {
  if (!state) return undefined
  return cidrsContain(state.prefixes.map(parseCidr).filter((prefix): prefix is Cidr => prefix !== undefined))
}

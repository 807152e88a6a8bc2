// OutsideHost documents of one ConfigMap that would meet at one address and port, where a sidecar uses neither: as far as that
// shows without the cluster, its author is told at once.
import { type Cidr, cidrsContain, parseCidr } from '../addresses.ts'
import type { OutsideHostDocument, PolicyDocument } from './document.ts'

/** Each is compared with each: of more addresses together it does not show here, but where they are dialled. */
const MAX_COMPARED = 500

/** Pairs of names. Documents with different selectors may concern different pods. */
export function overlapsOf(documents: readonly PolicyDocument[]): readonly (readonly [string, string])[] {
  const hosts = documents.filter(document => document.kind === 'OutsideHost').map(reachOf)
  if (hosts.reduce((sum, { networks }) => sum + networks.length, 0) > MAX_COMPARED) return []
  return hosts.flatMap((a, index) =>
    hosts
      .slice(index + 1)
      .filter(b => a.selector === b.selector && a.ports.some(port => b.ports.includes(port)))
      .filter(b => b.networks.some(a.contains) || a.networks.some(b.contains))
      .map(b => [a.name, b.name] as const),
  )
}

/** Two prefixes meet where one contains the other's network. */
function reachOf({ selector, outside: { name, addresses, ports = [] } }: OutsideHostDocument) {
  const cidrs = addresses.map(parseCidr).filter((cidr): cidr is Cidr => cidr !== undefined)
  const labels = Object.entries(selector ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  return {
    name,
    ports,
    selector: JSON.stringify(labels),
    networks: cidrs.map(({ network }) => network),
    contains: cidrsContain(cidrs),
  }
}

// Takes one event into the world and says what may answer differently now. No I/O, no clock; events of different objects
// may come in any order.
import type {
  V1ConfigMap,
  V1EndpointSlice,
  V1Namespace,
  V1Node,
  V1Pod,
  V1Service,
  V1ServiceCIDR,
} from '@kubernetes/client-node'
import type { Table } from './table.ts'
import {
  configmaps,
  dropOrphans,
  endpointslices,
  namespaces,
  nodes,
  pods,
  servicecidrs,
  services,
} from './tables.ts'
import type { Changes, Pending, World } from './world.ts'

export type Objects = {
  pods: V1Pod
  services: V1Service
  endpointslices: V1EndpointSlice
  nodes: V1Node
  namespaces: V1Namespace
  configmaps: V1ConfigMap
  servicecidrs: V1ServiceCIDR
}
export type Resource = keyof Objects

export type ResourceEvent<R extends Resource> =
  | { readonly kind: 'list'; readonly resource: R; readonly items: readonly Objects[R][] }
  | { readonly kind: 'set' | 'gone'; readonly resource: R; readonly object: Objects[R] }

export function reduce<R extends Resource>(world: World, event: ResourceEvent<R>): Changes {
  const pending: Pending = {
    addresses: new Set(),
    pods: new Set(),
    namespaces: new Set(),
    everything: false,
    policies: [],
    owned: false,
  }
  const table: Table<Objects[R]> = TABLES[event.resource]
  if (event.kind === 'list') table.list(world, event.items, pending)
  else table[event.kind](world, event.object, pending)
  if (event.resource === 'namespaces') dropOrphans(world, pending)
  if (pending.owned && world.prefixes.own(ownedBy(world), addressesOf(world))) pending.everything = true
  return pending
}

const TABLES: { readonly [R in Resource]: Table<Objects[R]> } = {
  pods,
  services,
  endpointslices,
  nodes,
  namespaces,
  configmaps,
  servicecidrs,
}

function* ownedBy({ settings, nodes, serviceCidrs }: World): Generator<string> {
  yield* settings.prefixes
  for (const { podCidrs } of nodes.values()) yield* podCidrs
  for (const cidrs of serviceCidrs.values()) yield* cidrs
}

function* addressesOf({ pods, services }: World): Generator<string> {
  for (const { addresses } of pods.values()) yield* addresses
  for (const { addresses } of services.values()) yield* addresses
}

// What the injector knows of the cluster, as tables of small records with indices. `reduce` takes one event in and says
// what may answer differently now; it does no I/O and asks no clock, and events of different objects may come in any
// order. It changes the world in place: a copy for each event would cost as much as the cluster is large.
import type {
  V1ConfigMap,
  V1EndpointSlice,
  V1Namespace,
  V1Node,
  V1Pod,
  V1Service,
  V1ServiceCIDR,
} from '@kubernetes/client-node'
import type { InboundMode, PolicySet } from '../../shared/policy/model.ts'
import { createIndex, type Index } from './index-of.ts'
import type { PolicyRecord } from './policies.ts'
import { createPrefixes, type Prefixes } from './prefixes.ts'
import type { NamespaceRecord, NodeRecord, PodRecord, ServiceRecord, SliceRecord } from './records.ts'
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

export type WorldSettings = {
  readonly trustDomain: string
  readonly systemNamespace: string
  /** What holds where no policy and no namespace label says otherwise. */
  readonly meshMode: InboundMode
  readonly defaultAction: PolicySet['defaultAction']
  /** CIDRs that belong to the cluster, beside those that the API server tells. */
  readonly prefixes: readonly string[]
}

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

/** What may be different after an event: whoever asks again gets the answer of now. */
export type Changes = {
  readonly addresses: Set<string>
  /** Pods, by uid, and namespaces that other policy may bind. */
  readonly pods: Set<string>
  readonly namespaces: Set<string>
  /** Mesh-wide policy or the prefixes: concerns every pod and every address. */
  everything: boolean
  /** Policy ConfigMaps before and after. */
  readonly policies: PolicyRecord[]
}

/** `owned`: the owned prefixes are made anew once the event is through, however many objects it brought. */
export type Pending = Changes & { owned: boolean }

export type World = {
  readonly settings: WorldSettings
  readonly prefixes: Prefixes
  /** Pods by uid, nodes, namespaces and Service CIDRs by name, all others by `<namespace>/<name>`. */
  readonly pods: Map<string, PodRecord>
  readonly services: Map<string, ServiceRecord>
  readonly slices: Map<string, SliceRecord>
  readonly nodes: Map<string, NodeRecord>
  readonly namespaces: Map<string, NamespaceRecord>
  readonly policies: Map<string, PolicyRecord>
  readonly serviceCidrs: Map<string, readonly string[]>
  readonly podsByAddress: Index
  readonly podsByNode: Index
  readonly servicesByAddress: Index
  readonly servicesByNamespace: Index
  readonly slicesByService: Index
  /** By address and by pod uid. */
  readonly slicesByTarget: Index
  readonly nodesByAddress: Index
  readonly policiesByNamespace: Index
  /** Keys of policies whose object is gone while their namespace is being deleted. */
  readonly orphanedPolicies: Set<string>
}

export function createWorld(settings: WorldSettings): World {
  const prefixes = createPrefixes()
  prefixes.own(settings.prefixes, [])
  return {
    settings,
    prefixes,
    pods: new Map(),
    services: new Map(),
    slices: new Map(),
    nodes: new Map(),
    namespaces: new Map(),
    policies: new Map(),
    serviceCidrs: new Map(),
    podsByAddress: createIndex(),
    podsByNode: createIndex(),
    servicesByAddress: createIndex(),
    servicesByNamespace: createIndex(),
    slicesByService: createIndex(),
    slicesByTarget: createIndex(),
    nodesByAddress: createIndex(),
    policiesByNamespace: createIndex(),
    orphanedPolicies: new Set(),
  }
}

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

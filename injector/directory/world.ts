// What the injector knows of the cluster, as tables of small records with indices. It is changed in place, by reduce()
// alone: a copy for each event would cost as much as the cluster is large.
import type { InboundMode, PolicySet } from '../../shared/policy/model.ts'
import { createIndex, type Index } from './index-of.ts'
import type { PolicyRecord } from './policies.ts'
import { createPrefixes, type Prefixes } from './prefixes.ts'
import type { NamespaceRecord, NodeRecord, PodRecord, ServiceRecord, SliceRecord } from './records.ts'

export type WorldSettings = {
  readonly trustDomain: string
  readonly systemNamespace: string
  /** What holds where no policy and no namespace label says otherwise. */
  readonly meshMode: InboundMode
  readonly defaultAction: PolicySet['defaultAction']
  /** CIDRs that belong to the cluster, beside those that the API server tells. */
  readonly prefixes: readonly string[]
}

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
  /** By namespace: those that say what their ports speak. */
  readonly declaringServices: Index
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
    declaringServices: createIndex(),
    slicesByService: createIndex(),
    slicesByTarget: createIndex(),
    nodesByAddress: createIndex(),
    policiesByNamespace: createIndex(),
    orphanedPolicies: new Set(),
  }
}

// The world's tables: which indices each resource is in, and whose answers it decides.
import type {
  V1ConfigMap,
  V1EndpointSlice,
  V1Namespace,
  V1Node,
  V1ObjectMeta,
  V1Pod,
  V1Service,
  V1ServiceCIDR,
} from '@kubernetes/client-node'
import { type PolicyRecord, policyRecord } from './policies.ts'
import {
  type NamespaceRecord,
  type NodeRecord,
  namespaceRecord,
  nodeRecord,
  type PodRecord,
  podRecord,
  type ServiceRecord,
  type SliceRecord,
  serviceCidrRecord,
  serviceRecord,
  sliceRecord,
} from './records.ts'
import { createTable } from './table.ts'
import type { Pending, World } from './world.ts'

type Named = { metadata?: V1ObjectMeta }
const nameOf = ({ metadata }: Named): string => metadata?.name ?? ''
const placeOf = ({ metadata }: Named): string => `${metadata?.namespace ?? ''}/${metadata?.name ?? ''}`

export const pods = createTable<V1Pod, PodRecord>({
  records: world => world.pods,
  key: ({ metadata }) => metadata?.uid ?? '',
  read: podRecord,
  index: (world, uid, { addresses, node }, change, pending) => {
    for (const address of addresses) {
      world.podsByAddress[change](address, uid)
      if (world.prefixes.count(address, change)) pending.everything = true
    }
    world.podsByNode[change](node, uid)
  },
  touch: (world, uid, { addresses }, pending) => {
    pending.pods.add(uid)
    touchPod(world, uid, addresses, pending)
  },
})

export const services = createTable<V1Service, ServiceRecord>({
  records: world => world.services,
  key: placeOf,
  read: serviceRecord,
  index: (world, key, { addresses, namespace, declares }, change, pending) => {
    for (const address of addresses) {
      world.servicesByAddress[change](address, key)
      if (world.prefixes.count(address, change)) pending.everything = true
    }
    world.servicesByNamespace[change](namespace, key)
    if (declares.length > 0) world.declaringServices[change](namespace, key)
  },
  touch: (world, _, { addresses, namespace, declares }, pending) => {
    for (const address of addresses) touchAddress(world, address, pending)
    if (declares.length > 0) pending.namespaces.add(namespace)
  },
})

export const endpointslices = createTable<V1EndpointSlice, SliceRecord>({
  records: world => world.slices,
  key: placeOf,
  read: sliceRecord,
  index: (world, key, { service, endpoints }, change) => {
    world.slicesByService[change](service, key)
    for (const { address, podUid } of endpoints) {
      world.slicesByTarget[change](address, key)
      if (podUid) world.slicesByTarget[change](podUid, key)
    }
  },
  touch: (world, _, { service }, pending) => touchService(world, service, pending),
})

export const nodes = createTable<V1Node, NodeRecord>({
  records: world => world.nodes,
  key: nameOf,
  read: nodeRecord,
  index: (world, name, { addresses }, change) => {
    for (const address of addresses) world.nodesByAddress[change](address, name)
  },
  touch: (world, name, { addresses }, pending) => {
    pending.owned = true
    for (const address of addresses) touchAddress(world, address, pending)
    // Their zone is their node's.
    for (const uid of world.podsByNode.get(name)) {
      pending.pods.add(uid)
      touchPod(world, uid, world.pods.get(uid)?.addresses ?? [], pending)
    }
  },
})

export const namespaces = createTable<V1Namespace, NamespaceRecord>({
  records: world => world.namespaces,
  key: nameOf,
  read: namespaceRecord,
  touch: (_, name, __, pending) => pending.namespaces.add(name),
})

export const configmaps = createTable<V1ConfigMap, PolicyRecord>({
  records: world => world.policies,
  key: placeOf,
  read: (object, former, world) => policyRecord(object, former, world.settings.systemNamespace),
  index: (world, key, { namespace }, change) => world.policiesByNamespace[change](namespace, key),
  touch: (world, _, record, pending) => {
    pending.policies.push(record)
    if (record.namespace === world.settings.systemNamespace) pending.everything = true
    else pending.namespaces.add(record.namespace)
  },
  // A namespace that is being deleted may lose its policies before its pods: they stay protected.
  keeps: (world, key, { namespace }) => {
    const keep = world.namespaces.get(namespace)?.terminating === true
    if (keep) world.orphanedPolicies.add(key)
    return keep
  },
  // A new namespace of the same name may be seen later than its policies.
  present: (world, key) => world.orphanedPolicies.delete(key),
})

/** Policies that outlived their object go with their namespace. */
export function dropOrphans(world: World, pending: Pending): void {
  for (const key of world.orphanedPolicies) {
    const record = world.policies.get(key)
    if (record && world.namespaces.get(record.namespace)?.terminating) continue
    world.orphanedPolicies.delete(key)
    if (record)
      configmaps.gone(world, { metadata: { namespace: record.namespace, name: record.name } }, pending)
  }
}

export const servicecidrs = createTable<V1ServiceCIDR, readonly string[]>({
  records: world => world.serviceCidrs,
  key: nameOf,
  read: serviceCidrRecord,
  touch: (_, __, ___, pending) => {
    pending.owned = true
  },
})

function touchPod(world: World, uid: string, addresses: readonly string[], pending: Pending): void {
  for (const address of addresses) touchAddress(world, address, pending)
  touchServicesOf(world, uid, pending)
}

/** The address itself, and the Services that have it as an endpoint. */
function touchAddress(world: World, address: string, pending: Pending): void {
  pending.addresses.add(address)
  touchServicesOf(world, address, pending)
}

function touchServicesOf(world: World, target: string, pending: Pending): void {
  for (const key of world.slicesByTarget.get(target)) {
    const slice = world.slices.get(key)
    if (slice) touchService(world, slice.service, pending)
  }
}

function touchService(world: World, key: string, pending: Pending): void {
  for (const address of world.services.get(key)?.addresses ?? []) pending.addresses.add(address)
}

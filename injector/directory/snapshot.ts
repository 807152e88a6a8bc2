// What binds one pod: its policies and mode, what its ports speak, and the prefixes. Pure; the control stream sends it,
// the CLI shows it.
import type { StateExtensions } from '../../shared/control/messages.ts'
import { bind, bindOutside, bindRequestAuthentication, selects } from '../../shared/policy/bind.ts'
import type { PolicyDocument } from '../../shared/policy/document.ts'
import type { PolicySet } from '../../shared/policy/model.ts'
import { protocolsOf } from './protocols.ts'
import type { Labels } from './records.ts'
import type { World } from './world.ts'

export type Snapshot = { readonly policy: PolicySet; readonly prefixes: readonly string[] } & StateExtensions

/** Undefined: no such pod, or it has ended. */
export function snapshotFor(world: World, podUid: string): Snapshot | undefined {
  const pod = world.pods.get(podUid)
  if (!pod?.live) return undefined
  const { systemNamespace, meshMode, defaultAction } = world.settings
  const documents = new Set([...documentsOf(world, pod.namespace), ...documentsOf(world, systemNamespace)])
  const policy = bind([...documents], pod, {
    systemNamespace,
    namespaceMode: world.namespaces.get(pod.namespace)?.mode,
    meshMode,
    defaultAction,
  })
  const outside = bindOutside([...documents], pod, { systemNamespace })
  const requestAuthentication = bindRequestAuthentication([...documents], pod, { systemNamespace })
  const zone = world.nodes.get(pod.node)?.zone
  const protocols = protocolsOf(world, pod)
  return {
    policy,
    prefixes: world.prefixes.asked(),
    protocols,
    outside,
    requestAuthentication,
    ...(zone && { zone }),
  }
}

function documentsOf(world: World, namespace: string): PolicyDocument[] {
  const keys = [...world.policiesByNamespace.get(namespace)].sort()
  return keys.flatMap(key => world.policies.get(key)?.documents ?? [])
}

/** Names of the Services that select a pod with these labels: DNS names for its certificate. */
export function servicesSelecting(world: World, namespace: string, labels: Labels): string[] {
  return [...world.servicesByNamespace.get(namespace)]
    .flatMap(key => world.services.get(key) ?? [])
    .filter(({ selector }) => selector && Object.keys(selector).length > 0 && selects(selector, labels))
    .map(({ name }) => name)
    .sort()
}

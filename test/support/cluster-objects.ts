// API objects as short as a test's sentence needs them, for the directory and whoever asks it.
import type {
  V1ConfigMap,
  V1ContainerPort,
  V1EndpointSlice,
  V1Namespace,
  V1Node,
  V1Pod,
  V1Service,
  V1ServiceCIDR,
  V1ServicePort,
} from '@kubernetes/client-node'

export type PodParts = {
  readonly uid?: string
  readonly namespace?: string
  readonly ips?: readonly string[]
  readonly serviceAccount?: string
  readonly labels?: Record<string, string>
  readonly mesh?: boolean
  readonly phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed'
  readonly node?: string
  readonly hostNetwork?: boolean
  readonly deleting?: boolean
  /** The sidecar's POSTERN_CONFIG. */
  readonly config?: string
  /** Of the application's container. */
  readonly ports?: readonly V1ContainerPort[]
}

export function pod(name: string, parts: PodParts = {}): V1Pod {
  const { uid = `uid-${name}`, namespace = 'shop', ips = [], mesh = true, config = '{}' } = parts
  const env = [{ name: 'POSTERN_CONFIG', value: config }]
  return {
    metadata: {
      name,
      namespace,
      uid,
      ...(parts.labels && { labels: parts.labels }),
      ...(parts.deleting && { deletionTimestamp: new Date(0) }),
    },
    spec: {
      serviceAccountName: parts.serviceAccount ?? name,
      nodeName: parts.node ?? 'node-1',
      containers: [{ name: 'app', ...(parts.ports && { ports: [...parts.ports] }) }],
      ...(parts.hostNetwork && { hostNetwork: true }),
      ...(mesh && { initContainers: [{ name: 'postern-proxy', restartPolicy: 'Always', env }] }),
    },
    status: { phase: parts.phase ?? 'Running', podIPs: ips.map(ip => ({ ip })) },
  }
}

export const service = (
  name: string,
  clusterIPs: readonly string[],
  parts: {
    namespace?: string
    selector?: Record<string, string>
    ports?: V1ServicePort[]
  } = {},
): V1Service => ({
  metadata: { name, namespace: parts.namespace ?? 'shop' },
  spec: {
    clusterIPs: [...clusterIPs],
    ports: parts.ports ?? [{ port: 80 }],
    ...(parts.selector && { selector: parts.selector }),
  },
})

export type EndpointParts = {
  readonly ip: string
  readonly podUid?: string
  readonly ready?: boolean
  readonly zone?: string
}

export const slice = (
  name: string,
  serviceName: string,
  endpoints: readonly EndpointParts[],
  parts: { namespace?: string; ports?: { name?: string; port: number }[]; addressType?: string } = {},
): V1EndpointSlice => ({
  metadata: {
    name,
    namespace: parts.namespace ?? 'shop',
    labels: { 'kubernetes.io/service-name': serviceName },
  },
  addressType: parts.addressType ?? 'IPv4',
  ports: parts.ports ?? [{ name: '', port: 8080 }],
  endpoints: endpoints.map(({ ip, podUid, ready, zone }) => ({
    addresses: [ip],
    ...(ready !== undefined && { conditions: { ready } }),
    ...(podUid && { targetRef: { kind: 'Pod', uid: podUid } }),
    ...(zone && { zone }),
  })),
})

export const node = (
  name: string,
  parts: { ips?: string[]; podCidrs?: string[]; zone?: string } = {},
): V1Node => ({
  metadata: { name, ...(parts.zone && { labels: { 'topology.kubernetes.io/zone': parts.zone } }) },
  spec: parts.podCidrs ? { podCIDRs: parts.podCidrs } : {},
  status: { addresses: (parts.ips ?? []).map(address => ({ type: 'InternalIP', address })) },
})

export const namespace = (
  name: string,
  parts: { labels?: Record<string, string>; terminating?: boolean } = {},
): V1Namespace => ({
  metadata: { name, ...(parts.labels && { labels: parts.labels }) },
  status: { phase: parts.terminating ? 'Terminating' : 'Active' },
})

export const policies = (name: string, yaml: string, namespaceName = 'shop'): V1ConfigMap => ({
  metadata: { name, namespace: namespaceName, labels: { 'postern.dev/policy': 'true' } },
  data: { 'policy.yaml': yaml },
})

export const serviceCidr = (name: string, ...cidrs: string[]): V1ServiceCIDR => ({
  metadata: { name },
  spec: { cidrs },
})

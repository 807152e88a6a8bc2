// What has an address? The one question that sidecars ask. An answer names the identity that must answer there, so it
// rests only on what the kubelet and the API server vouch for: a Service's endpoints never lead to a pod of another
// namespace, whoever wrote the EndpointSlice (compare CVE-2021-25740), nor to an address that two pods claim.
import type { AddressEntry, Endpoint, MeshPod, ServicePort } from '../../shared/control/messages.ts'
import { workloadSpiffeId } from '../../shared/spiffe-id.ts'
import { eligible, type Place, type Placed } from './eligible.ts'
import type { PodRecord, ServiceRecord, SliceEndpoint, SliceRecord } from './records.ts'
import type { World } from './world.ts'

/** `address` is canonical; `asker` is the uid of the pod that asks. */
export function answer(world: World, address: string, asker?: string): AddressEntry {
  const [service] = [...world.servicesByAddress.get(address)].sort()
  const record = service === undefined ? undefined : world.services.get(service)
  if (service !== undefined && record) {
    const { affinitySeconds } = record
    const ports = portsOf(world, service, record, address, placeOf(world, asker))
    return { kind: 'service', address, service, ports, ...(affinitySeconds && { affinitySeconds }) }
  }
  const uids = [...world.podsByAddress.get(address)].sort()
  if (uids.length > 1) return { kind: 'ambiguous', address, uids }
  const pod = world.pods.get(uids[0] ?? '')
  if (pod) return pod.mesh ? { kind: 'mesh', address, pod: meshPod(world, pod) } : { kind: 'plain', address }
  const known = world.nodesByAddress.get(address).size > 0 || !world.prefixes.owns(address)
  return { kind: known ? 'plain' : 'unknown', address }
}

function placeOf(world: World, asker: string | undefined): Place | undefined {
  const node = world.pods.get(asker ?? '')?.node
  return node === undefined ? undefined : { node, zone: world.nodes.get(node)?.zone }
}

function meshPod(world: World, pod: PodRecord): MeshPod {
  const { uid, name, namespace, serviceAccount, skipInboundPorts } = pod
  const { trustDomain } = world.settings
  const zone = world.nodes.get(pod.node)?.zone
  const identity = workloadSpiffeId({ trustDomain, namespace, serviceAccount })
  return { uid, name, namespace, identity, skipInboundPorts, ...(zone && { zone }) }
}

function portsOf(
  world: World,
  key: string,
  service: ServiceRecord,
  address: string,
  place: Place | undefined,
): ServicePort[] {
  const family = address.includes(':') ? 'ipv6' : 'ipv4'
  const slices = [...world.slicesByService.get(key)]
    .flatMap(slice => world.slices.get(slice) ?? [])
    .filter(slice => slice.family === family)
  return service.ports.map(({ name, port }) => ({
    port,
    endpoints: endpointsOf(world, service, slices, name, place),
  }))
}

type Found = Placed & { readonly endpoint: Endpoint }

/** In the order of their addresses; an endpoint may stand in two slices while they are rewritten. */
function endpointsOf(
  world: World,
  service: ServiceRecord,
  slices: readonly SliceRecord[],
  portName: string,
  place: Place | undefined,
): Endpoint[] {
  const found = new Map<string, Found>()
  for (const { ports, endpoints } of slices) {
    for (const { port } of ports.filter(({ name }) => name === portName)) {
      for (const candidate of endpoints) {
        const endpoint = endpointOf(world, service, candidate, port)
        if (endpoint) found.set(`${candidate.address} ${port}`, { ...placed(world, candidate), endpoint })
      }
    }
  }
  const sorted = [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value)
  const { endpoints, hinted } = eligible(sorted, place, service.local)
  return endpoints.map(({ endpoint }) => (hinted ? anywhere(endpoint) : endpoint))
}

const anywhere = ({ zone: _, ...endpoint }: Endpoint): Endpoint => endpoint

const placed = (world: World, { podUid, node, terminating, hints }: SliceEndpoint): Placed => ({
  node: podUid === undefined ? node : world.pods.get(podUid)?.node,
  ...(terminating && { terminating }),
  ...(hints && { hints }),
})

function endpointOf(
  world: World,
  service: ServiceRecord,
  { address, podUid, zone: sliceZone }: SliceEndpoint,
  port: number,
): Endpoint | undefined {
  const claimants = [...world.podsByAddress.get(address)]
  const pod = world.pods.get(podUid ?? claimants[0] ?? '')
  const zone = (pod && world.nodes.get(pod.node)?.zone) ?? sliceZone
  const plain = { address, port, ...(zone && { zone }) }
  if (claimants.length === 0) {
    const named =
      podUid === undefined || (pod?.live && pod.hostNetwork && pod.namespace === service.namespace)
    return named && isOutside(world, address) ? plain : undefined
  }
  if (claimants.length > 1 || !pod || pod.uid !== claimants[0] || pod.namespace !== service.namespace) {
    return undefined
  }
  return pod.mesh ? { ...plain, mesh: meshPod(world, pod) } : plain
}

/** A node or a host outside the cluster: what no pod and no Service has, or is about to have. */
const isOutside = (world: World, address: string): boolean =>
  world.servicesByAddress.get(address).size === 0 &&
  (world.nodesByAddress.get(address).size > 0 || !world.prefixes.owns(address))

// API objects cut down to what the directory needs. A record that equals its predecessor changes nothing, so the many
// updates that only touch heartbeats, conditions or annotations end here; and a large cluster costs little memory.
import type {
  V1Endpoint,
  V1EndpointSlice,
  V1Namespace,
  V1Node,
  V1Pod,
  V1Service,
  V1ServiceCIDR,
} from '@kubernetes/client-node'
import { canonicalAddress } from '../../shared/addresses.ts'
import { NAMESPACE_LABELS } from '../../shared/injection/annotations.ts'
import { PROXY_CONTAINER } from '../../shared/names.ts'
import type { InboundMode } from '../../shared/policy/model.ts'
import { NO_PROTOCOLS, PROTOCOLS, type Protocol, type Protocols } from '../../shared/protocol.ts'
import { type Declaration, declarationsOf, type NamedPort, namedPorts } from './declared-ports.ts'

export type Labels = Readonly<Record<string, string>>

export type PodRecord = {
  readonly uid: string
  readonly name: string
  readonly namespace: string
  readonly serviceAccount: string
  readonly labels: Labels
  readonly node: string
  /** Neither succeeded nor failed. A pod that is being deleted lives until it is gone. */
  readonly live: boolean
  readonly hostNetwork: boolean
  /** Canonical; empty for a pod that is not live or shares its node's addresses. */
  readonly addresses: readonly string[]
  /** It holds a sidecar: read from its spec, which nobody can change later. */
  readonly mesh: boolean
  readonly skipInboundPorts: readonly number[]
  /** What its annotations said at its creation. */
  readonly protocols: Protocols
  /** It has a certificate from elsewhere, and need not ask the API server for one. */
  readonly elsewhere?: true
  readonly namedPorts: readonly NamedPort[]
}

export type ServiceRecord = {
  readonly namespace: string
  readonly name: string
  readonly addresses: readonly string[]
  readonly selector: Labels | undefined
  /** internalTrafficPolicy: only endpoints on the caller's own node. */
  readonly local: boolean
  /** sessionAffinity: how long a caller keeps to an endpoint that it has used. */
  readonly affinitySeconds?: number
  /** TCP ports by their name (empty where it has none). */
  readonly ports: readonly { readonly name: string; readonly port: number }[]
  readonly declares: readonly Declaration[]
}

export type SliceRecord = {
  /** `<namespace>/<service>` */
  readonly service: string
  readonly family: 'ipv4' | 'ipv6'
  readonly ports: readonly { readonly name: string; readonly port: number }[]
  readonly endpoints: readonly SliceEndpoint[]
}

/** Ready, or still serving while it ends; with the first address that the slice gives. */
export type SliceEndpoint = {
  readonly address: string
  /** Absent where the slice points at no pod. */
  readonly podUid?: string
  /** Of what is no pod. */
  readonly node?: string
  readonly zone?: string
  readonly terminating?: boolean
  /** For callers in which zones, and on which nodes, the endpoint is meant. */
  readonly hints?: { readonly zones?: readonly string[]; readonly nodes?: readonly string[] }
}

export type NodeRecord = {
  readonly addresses: readonly string[]
  readonly podCidrs: readonly string[]
  readonly zone?: string
}

export type NamespaceRecord = { readonly mode?: InboundMode; readonly terminating: boolean }

const ZONE_LABEL = 'topology.kubernetes.io/zone'
const SERVICE_LABEL = 'kubernetes.io/service-name'

export function podRecord(pod: V1Pod): PodRecord {
  const { metadata = {}, spec, status } = pod
  const live = status?.phase !== 'Succeeded' && status?.phase !== 'Failed'
  const hostNetwork = spec?.hostNetwork === true
  const sidecar = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])].find(
    ({ name }) => name === PROXY_CONTAINER,
  )
  const config = sidecar?.env?.find(({ name }) => name === 'POSTERN_CONFIG')?.value
  return {
    uid: metadata.uid ?? '',
    name: metadata.name ?? '',
    namespace: metadata.namespace ?? '',
    serviceAccount: spec?.serviceAccountName || 'default',
    labels: metadata.labels ?? {},
    node: spec?.nodeName ?? '',
    live,
    hostNetwork,
    addresses: live && !hostNetwork ? canonical((status?.podIPs ?? []).map(({ ip }) => ip)) : [],
    mesh: sidecar !== undefined && !hostNetwork,
    ...(config === undefined ? NOTHING_SAID : saidAtInjection(config)),
    namedPorts: namedPorts(pod),
  }
}

/** Each entry that leads to the pod repeats them; what is left out goes through the tunnel. */
const MAX_PORTS = 256

const isPort = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535

const NOTHING_SAID: Pick<PodRecord, 'skipInboundPorts' | 'protocols' | 'elsewhere'> = {
  skipInboundPorts: [],
  protocols: NO_PROTOCOLS,
}

/**
 * Read leniently: a sidecar injected by another version has settings that this one does not know. Whoever writes a pod
 * by hand writes these too, and other pods' sidecars are told of them: only what they can read is passed on.
 */
function saidAtInjection(config: string): typeof NOTHING_SAID {
  try {
    const said = JSON.parse(config) as { [key: string]: unknown }
    const { skipInboundPorts, protocols, certificateSource } = said
    const skipped = Array.isArray(skipInboundPorts) ? skipInboundPorts.filter(isPort) : []
    return {
      skipInboundPorts: [...new Set(skipped)].slice(0, MAX_PORTS),
      protocols: Object.fromEntries(Object.entries(Object(protocols)).filter(isDeclared).slice(0, MAX_PORTS)),
      ...(certificateSource !== undefined && { elsewhere: true }),
    }
  } catch {
    return NOTHING_SAID
  }
}

const isDeclared = (entry: [string, unknown]): entry is [string, Protocol] =>
  /^[1-9]/.test(entry[0]) && isPort(Number(entry[0])) && PROTOCOLS.some(name => name === entry[1])

/** What Kubernetes fills in. */
const AFFINITY_SECONDS = 10_800

export function serviceRecord(service: V1Service): ServiceRecord {
  const { metadata = {}, spec } = service
  const ports = (spec?.ports ?? []).filter(({ protocol = 'TCP' }) => protocol === 'TCP')
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name ?? '',
    // A headless Service says `None`, which is no address.
    addresses: canonical(spec?.clusterIPs ?? []),
    selector: spec?.selector,
    local: spec?.internalTrafficPolicy === 'Local',
    ...(spec?.sessionAffinity === 'ClientIP' && {
      affinitySeconds: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? AFFINITY_SECONDS,
    }),
    ports: ports.map(({ name = '', port }) => ({ name, port })),
    declares: declarationsOf(service),
  }
}

export function sliceRecord({ metadata = {}, addressType, ports, endpoints }: V1EndpointSlice): SliceRecord {
  const tcp = (ports ?? []).filter(({ protocol = 'TCP', port }) => protocol === 'TCP' && port !== undefined)
  return {
    service: `${metadata.namespace}/${metadata.labels?.[SERVICE_LABEL] ?? ''}`,
    family: addressType === 'IPv6' ? 'ipv6' : 'ipv4',
    ports: tcp.map(({ name, port = 0 }) => ({ name: name ?? '', port })),
    endpoints: (endpoints ?? []).flatMap(endpoint => sliceEndpoint(endpoint) ?? []),
  }
}

function sliceEndpoint({
  addresses,
  conditions,
  hints,
  nodeName,
  targetRef,
  zone,
}: V1Endpoint): SliceEndpoint | undefined {
  const [address] = canonical(addresses.slice(0, 1))
  // API convention: an unknown condition means ready; one that is terminating is never ready.
  const terminating = conditions?.ready === false && conditions.terminating && conditions.serving
  if (address === undefined || (conditions?.ready === false && !terminating)) return undefined
  const podUid = targetRef?.kind === 'Pod' ? (targetRef.uid ?? '') : undefined
  const zones = hints?.forZones?.map(({ name }) => name)
  const nodes = hints?.forNodes?.map(({ name }) => name)
  return {
    address,
    ...(podUid !== undefined ? { podUid } : nodeName && { node: nodeName }),
    ...(zone && { zone }),
    ...(terminating && { terminating }),
    ...((zones || nodes) && { hints: { ...(zones && { zones }), ...(nodes && { nodes }) } }),
  }
}

export function nodeRecord({ metadata, spec, status }: V1Node): NodeRecord {
  const zone = metadata?.labels?.[ZONE_LABEL]
  return {
    // Host names are among them; they are no addresses.
    addresses: canonical((status?.addresses ?? []).map(({ address }) => address)),
    podCidrs: spec?.podCIDRs ?? [],
    ...(zone && { zone }),
  }
}

export function namespaceRecord({ metadata, status }: V1Namespace): NamespaceRecord {
  // A value that does not parse counts as not written: the mesh's default holds.
  const written = metadata?.labels?.[NAMESPACE_LABELS.mode.key]
  const mode = written === undefined ? undefined : NAMESPACE_LABELS.mode.parse(written.trim())
  return { ...(mode && { mode }), terminating: status?.phase === 'Terminating' }
}

export const serviceCidrRecord = ({ spec }: V1ServiceCIDR): readonly string[] => spec?.cidrs ?? []

const canonical = (texts: readonly (string | undefined)[]): string[] =>
  texts.flatMap(text => canonicalAddress(text ?? '') ?? [])

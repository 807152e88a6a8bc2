// Why a pod cannot be given a sidecar: what the sidecar would not work with, or what would let another container of
// the pod read its key. Each reason names the field and what to do.
import type { V1Container, V1Pod, V1PodSpec } from '@kubernetes/client-node'
import {
  CERT_FILES_VOLUME,
  CERTIFICATE_VOLUME,
  INIT_CONTAINER,
  PROXY_CONTAINER,
  STATE_VOLUME,
  TOKEN_VOLUME,
} from '../names.ts'
import { isOwnPort, PROXY_UID } from '../ports.ts'
import { POD_ANNOTATIONS, type PodOptions } from './annotations.ts'

const OUR_CONTAINERS: readonly string[] = [INIT_CONTAINER, PROXY_CONTAINER]
/** Nobody else may mount them. */
const PRIVATE_VOLUMES: readonly string[] = [STATE_VOLUME, TOKEN_VOLUME, CERTIFICATE_VOLUME]
const OUR_VOLUMES: readonly string[] = [...PRIVATE_VOLUMES, CERT_FILES_VOLUME]
/** Sidecars that capture the same traffic. */
const OTHER_MESHES: readonly string[] = ['istio-proxy', 'linkerd-proxy']

export const isOurContainer = ({ name }: V1Container): boolean => OUR_CONTAINERS.includes(name)

/** Pods that no sidecar could ever serve: skipped where only their namespace opted in. */
export function unservable({ spec }: V1Pod): string | undefined {
  if (spec?.hostNetwork)
    return 'spec.hostNetwork: the traffic of one pod cannot be told from its node’s; use the pod network'
  if (spec?.os?.name === 'windows' || spec?.nodeSelector?.['kubernetes.io/os'] === 'windows')
    return 'spec.os: the sidecar needs Linux'
  return undefined
}

/** Everything that is in the way, once each. `injected`: the pod already holds our containers and volumes. */
export function conflicts({ spec }: V1Pod, injected: boolean): string[] {
  if (!spec) return ['spec: is missing']
  const others = [...(spec.initContainers ?? []), ...(spec.containers ?? [])].filter(
    container => !(injected && isOurContainer(container)),
  )
  return [
    ...sharedProcesses(spec),
    ...podUser(spec),
    ...others.flatMap(container => containerConflicts(container)),
    ...(spec.volumes ?? [])
      .filter(({ name }) => !injected && OUR_VOLUMES.includes(name))
      .map(({ name }) => `volume ${name}: the name is reserved; rename the volume`),
  ]
}

/** A volume that the pod does not have, or that is ours: the kubelet would say less, and later. */
export function missingVolume({ spec }: V1Pod, { certificateVolume: name }: PodOptions): string[] {
  if (name === undefined) return []
  const theirs = (spec?.volumes ?? [])
    .map(volume => volume.name)
    .filter(other => !OUR_VOLUMES.includes(other))
  if (theirs.includes(name)) return []
  const has = theirs.length > 0 ? `it has ${theirs.join(', ')}` : 'it has none'
  return [`${POD_ANNOTATIONS.certificateVolume.key}: the pod has no volume ${name} of its own; ${has}`]
}

function sharedProcesses(spec: V1PodSpec): string[] {
  const why = 'other processes could read the sidecar’s key through /proc; remove the field'
  return [
    ...(spec.shareProcessNamespace ? [`spec.shareProcessNamespace: ${why}`] : []),
    ...(spec.hostPID ? [`spec.hostPID: ${why}`] : []),
  ]
}

function podUser({ securityContext = {} }: V1PodSpec): string[] {
  const { runAsUser, runAsGroup, fsGroup, supplementalGroups } = securityContext ?? {}
  const groups = supplementalGroups ?? []
  return Object.entries({ runAsUser, runAsGroup, fsGroup, supplementalGroups: groups })
    .filter(([, value]) => value === PROXY_UID || (Array.isArray(value) && value.includes(PROXY_UID)))
    .map(([field]) => `spec.securityContext.${field}: ${RESERVED_ID}`)
}

const RESERVED_ID = `${PROXY_UID} is the sidecar’s own, whose traffic is not captured; choose another`

function containerConflicts(container: V1Container): string[] {
  const { name } = container
  if (OUR_CONTAINERS.includes(name)) return [`container ${name}: the name is reserved; rename the container`]
  if (OTHER_MESHES.includes(name))
    return [`container ${name}: another mesh captures this pod’s traffic; opt out of one of the two`]
  const { runAsUser, runAsGroup } = container.securityContext ?? {}
  const ids = Object.entries({ runAsUser, runAsGroup }).filter(([, id]) => id === PROXY_UID)
  const ports = (container.ports ?? []).filter(
    ({ containerPort, protocol = 'TCP' }) => protocol === 'TCP' && isOwnPort(containerPort),
  )
  const mounts = (container.volumeMounts ?? []).filter(mount => PRIVATE_VOLUMES.includes(mount.name))
  return [
    ...ids.map(([field]) => `container ${name}: securityContext.${field}: ${RESERVED_ID}`),
    ...ports.map(
      ({ containerPort }) =>
        `container ${name}: port ${containerPort} is one of Postern’s own; listen on another`,
    ),
    ...mounts.map(
      mount => `container ${name}: volume ${mount.name} holds the sidecar’s key or token; do not mount it`,
    ),
  ]
}

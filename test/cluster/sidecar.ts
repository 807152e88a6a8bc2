// A sidecar from outside: its log, its metrics, and its death.
import type { V1Pod } from '@kubernetes/client-node'
import { PROXY_CONTAINER } from '../../shared/names.ts'
import { PORTS } from '../../shared/ports.ts'
import type { Cluster } from './cluster.ts'
import { checked, logs } from './pods.ts'

/** A line of its log: of every kind, so that each field may be absent. */
export type LogLine = {
  readonly time: string
  readonly msg: string
  readonly direction?: 'inbound' | 'outbound'
  readonly via?: 'tunnel' | 'plaintext'
  readonly source?: { readonly address: string; readonly identity?: string; readonly serial?: string }
  readonly destination?: { readonly address: string; readonly port: number; readonly serial?: string }
  readonly durationMs?: number
  readonly outcome?: 'ok' | 'reset' | 'closed' | 'refused'
  readonly code?: string
  readonly policy?: string
  readonly reason?: string
  readonly serial?: string
}

export async function sidecarLog(cluster: Cluster, namespace: string, pod: string): Promise<LogLine[]> {
  const text = await logs(cluster, namespace, pod, PROXY_CONTAINER)
  return text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as LogLine)
}

/** Connections that ended or were refused, in that order. */
export async function accessLog(cluster: Cluster, namespace: string, pod: string): Promise<LogLine[]> {
  return (await sidecarLog(cluster, namespace, pod)).filter(({ msg }) => msg === 'connection')
}

/** Of the certificates that came to it in this way, in that order. */
export async function serialsOf(
  cluster: Cluster,
  namespace: string,
  pod: string,
  came: 'issued' | 'taken' | 'restored' = 'issued',
): Promise<string[]> {
  const lines = await sidecarLog(cluster, namespace, pod)
  return lines.filter(({ msg }) => msg === `certificate ${came}`).flatMap(({ serial = [] }) => serial)
}

/** The value of one series, `name{label="value"}`; 0 when it is not there. */
export async function metric(
  cluster: Cluster,
  namespace: string,
  pod: string,
  series: string,
): Promise<number> {
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}:${PORTS.status}/proxy/metrics`
  const text = await checked(cluster, ['get', '--raw', path])
  const line = text.split('\n').find(candidate => candidate.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1) ?? 0)
}

export const podOf = ({ kube }: Cluster, namespace: string, pod: string): Promise<V1Pod> =>
  kube.get<V1Pod>(`/api/v1/namespaces/${namespace}/pods/${pod}`)

export async function addressOf(cluster: Cluster, namespace: string, pod: string): Promise<string> {
  const { status } = await podOf(cluster, namespace, pod)
  if (!status?.podIP) throw new Error(`pod ${namespace}/${pod} has no address yet`)
  return status.podIP
}

export type SidecarState = {
  readonly containerId: string
  readonly restarts: number
  readonly ready: boolean
}

export async function sidecarState(cluster: Cluster, namespace: string, pod: string): Promise<SidecarState> {
  const { status } = await podOf(cluster, namespace, pod)
  const container = status?.initContainerStatuses?.find(({ name }) => name === PROXY_CONTAINER)
  if (!container) throw new Error(`pod ${namespace}/${pod} has no sidecar`)
  const [, containerId = ''] = (container.containerID ?? '').split('://')
  return { containerId, restarts: container.restartCount, ready: container.ready }
}

/** How each sidecar that was started again had ended: the last line of its former log. */
export async function crashes(cluster: Cluster, namespace: string, ...pods: string[]): Promise<string[]> {
  const found: string[] = []
  for (const pod of pods) {
    const { restarts } = await sidecarState(cluster, namespace, pod)
    if (restarts === 0) continue
    const former = ['logs', `--namespace=${namespace}`, pod, `--container=${PROXY_CONTAINER}`, '--previous']
    const { stdout } = await cluster.kubectl([...former, '--tail=1'])
    found.push(`${pod}, ${restarts} times: ${stdout.trim()}`)
  }
  return found
}

/** To every process of the container; KILL as the kernel does for lack of memory. Needs no API server. */
export async function kill(
  cluster: Cluster,
  { containerId }: SidecarState,
  signal: 'KILL' | 'STOP' | 'CONT' = 'KILL',
): Promise<void> {
  const script = `grep -l "$0" /proc/[0-9]*/cgroup | cut -d/ -f3 | xargs kill -${signal}`
  const { code, stderr } = await cluster.onNode('sh', '-c', script, containerId)
  if (code !== 0) throw new Error(`kill -${signal} of container ${containerId}: ${stderr}`)
}

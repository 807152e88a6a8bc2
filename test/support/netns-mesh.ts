// A mesh with nothing faked but the kubelet: pods as network namespaces with real rules, sidecar processes from source,
// and an injector with the rights of its service account on a real API server on the same network.
import type { V1Pod, V1Service } from '@kubernetes/client-node'
import type { Test } from 'tap'
import type { Kube } from '../../shared/kube/rest.ts'
import { CERT_FILES_VOLUME } from '../../shared/names.ts'
import { INJECTOR_PORTS, PORTS } from '../../shared/ports.ts'
import { type InjectorProcess, startInjectorProcess } from '../kube/support/injector-process.ts'
import { createNamespace, createServiceAccount, install, until } from '../kube/support/installation.ts'
import { pointWebhooksAt } from '../kube/support/webhook-configurations.ts'
import { type ApiServer, startApiServer } from './api-server.ts'
import { enterNamespace } from './enter-namespace.ts'
import { type LogLine, type PodPlace, type RunningPod, reportRunning, runPod } from './namespace-kubelet.ts'
import { createNetwork, type Network } from './netns.ts'
import { freePorts } from './processes.ts'
import { scratchDirectory } from './scratch.ts'

export const MESH_NAMESPACE = 'shop'
/** Of Services: routed to the node, and captured before. */
const SERVICE_PREFIXES = ['10.96.0.0/16', 'fd96::/112'] as const
/** Of the first mesh, and of one beside it. */
export const POD_PREFIXES = [
  ['10.77.0.0/24', 'fd77::/64'],
  ['10.78.0.0/24', 'fd78::/64'],
] as const
const NODE = 'node-1'

export type MeshOptions = {
  /** Certificates are renewed after a third to a half of it. */
  readonly leafSeconds?: number
  /** More of the injector's settings. */
  readonly settings?: object
  /** The `injector/main.ts` of a version before, which refuses settings that it does not know. */
  readonly injectorMain?: string
  /** Another cluster, whose pods reach this one's and are reached. Neither is in the other's prefixes. */
  readonly beside?: Pick<Mesh, 'network'>
}

export type PodOptions = PodPlace & {
  /** The pod's name, where nothing else is said. */
  readonly serviceAccount?: string
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
}

export type Mesh = {
  readonly server: ApiServer
  readonly kube: Kube
  readonly network: Network
  /** The one that was started last. */
  readonly injector: InjectorProcess
  /** Another process in place of the one that has ended, of another version where `main` says so. Pods that are to be admitted need it to be pointed at. */
  restartInjector(main?: string): Promise<InjectorProcess>
  /** A pod whose sidecar is ready. */
  start(name: string, options?: PodOptions): Promise<RunningPod>
  /** A pod without a sidecar. */
  startPlain(name: string): Promise<PlainPod>
  /** A Service of both families whose port 80 leads to the given port of these pods. Returns its addresses. */
  createService(name: string, port: number, pods: readonly RunningPod[]): Promise<readonly string[]>
}

export type PlainPod = Pick<RunningPod, 'namespace' | 'ipv4' | 'ipv6'>

/** The main thread is in the node's network namespace until `stack` is disposed of. */
export async function startMesh(
  t: Test,
  stack: AsyncDisposableStack,
  { leafSeconds = 3600, settings = {}, beside, injectorMain }: MeshOptions = {},
): Promise<Mesh> {
  const directory = scratchDirectory(t)
  const network = stack.use(await createNetwork(beside?.network))
  stack.use(enterNamespace(network.node))
  const server = stack.use(
    await startApiServer({
      address: network.node.ipv4 ?? '',
      flags: [`--service-cluster-ip-range=${SERVICE_PREFIXES.join(',')}`],
    }),
  )
  const { kube } = server
  await install(server)
  await createNamespace(kube, MESH_NAMESPACE)
  await kube.create('/api/v1/nodes', { metadata: { name: NODE } })
  // One node cannot listen twice on the usual ones.
  const [control, bundle] = beside ? await freePorts(2) : [INJECTOR_PORTS.control, INJECTOR_PORTS.bundle]
  let started = 0
  const startInjector = async (main = injectorMain) => {
    const process = await startInjectorProcess(server, {
      name: `injector-${started++}`,
      directory,
      ...(main && { main }),
      settings: {
        listenAddress: '::',
        controlPort: control,
        controlAddress: `${network.node.ipv4}:${control}`,
        ...(!main && { bundlePort: bundle }),
        maxLeafLifetimeSeconds: leafSeconds,
        ...settings,
        prefixes: [...POD_PREFIXES[beside ? 1 : 0], ...SERVICE_PREFIXES],
      },
    })
    stack.defer(() => process.running.stop('SIGKILL'))
    await process.ready()
    return process
  }
  let injector = await startInjector()
  await pointWebhooksAt(server, injector)
  return {
    server,
    kube,
    network,
    get injector() {
      return injector
    },
    restartInjector: async main => {
      injector = await startInjector(main)
      return injector
    },
    start: async (name, options = {}) => {
      const pod = await admitted(server, name, options)
      const running = stack.use(await runPod(server, network, pod, options))
      await until(() => isReady(running))
      return running
    },
    startPlain: async name => {
      const pod = await kube.create<V1Pod>(podsPath, manifest(name, { serviceAccount: 'default' }))
      const namespace = await network.createPod(name)
      await reportRunning(server, network, pod, namespace)
      return { namespace, ipv4: namespace.ipv4 ?? '', ipv6: namespace.ipv6 ?? '' }
    },
    createService: (name, port, pods) => createService(kube, name, port, pods),
  }
}

const podsPath = `/api/v1/namespaces/${MESH_NAMESPACE}/pods`

function manifest(
  name: string,
  { serviceAccount = name, labels = { app: name }, annotations, volumes = {} }: PodOptions,
) {
  return {
    metadata: { name, labels, ...(annotations && { annotations }) },
    spec: {
      serviceAccountName: serviceAccount,
      nodeName: NODE,
      containers: [{ name: 'app', image: 'none' }],
      volumes: Object.keys(volumes)
        .filter(volume => volume !== CERT_FILES_VOLUME) // injection adds it
        .map(volume => ({ name: volume, emptyDir: {} })),
    },
  }
}

/** A pod that opted in, as the API server stored it after the webhook. */
async function admitted({ kube }: ApiServer, name: string, options: PodOptions): Promise<V1Pod> {
  const annotations = { 'postern.dev/inject': 'enabled', ...options.annotations }
  await createServiceAccount(kube, MESH_NAMESPACE, options.serviceAccount ?? name)
  const create = (query = '') =>
    kube.create<V1Pod>(`${podsPath}${query}`, manifest(name, { ...options, annotations }))
  // The API server reads the caBundle a moment after it was written.
  const isInjected = (pod: V1Pod) => pod.spec?.initContainers !== undefined
  await until(() => create('?dryRun=All').then(isInjected, () => false))
  return create()
}

/** With the endpoint slices that a controller would write. */
async function createService(kube: Kube, name: string, port: number, pods: readonly RunningPod[]) {
  const { spec } = await kube.create<V1Service>(`/api/v1/namespaces/${MESH_NAMESPACE}/services`, {
    metadata: { name },
    spec: { ipFamilyPolicy: 'RequireDualStack', ports: [{ name: 'tcp', port: 80, targetPort: port }] },
  })
  for (const [addressType, family] of [
    ['IPv4', 'ipv4'],
    ['IPv6', 'ipv6'],
  ] as const) {
    await kube.create(`/apis/discovery.k8s.io/v1/namespaces/${MESH_NAMESPACE}/endpointslices`, {
      metadata: { name: `${name}-${family}`, labels: { 'kubernetes.io/service-name': name } },
      addressType,
      ports: [{ name: 'tcp', port, protocol: 'TCP' }],
      endpoints: pods.map(({ pod: { metadata }, [family]: address }) => ({
        addresses: [address],
        conditions: { ready: true },
        targetRef: { kind: 'Pod', namespace: MESH_NAMESPACE, name: metadata?.name, uid: metadata?.uid },
      })),
    })
  }
  return spec?.clusterIPs ?? []
}

export const isReady = ({ ipv4 }: RunningPod): Promise<boolean> =>
  fetch(`http://${ipv4}:${PORTS.status}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  )

/** The values of a sidecar's series, by `name{label="value"}`. */
export async function metricsOf({ ipv4 }: RunningPod): Promise<(series: string) => number> {
  const text = await (await fetch(`http://${ipv4}:${PORTS.status}/metrics`)).text()
  const values = new Map(
    text.split('\n').map(line => {
      const space = line.lastIndexOf(' ')
      return [line.slice(0, space), Number(line.slice(space + 1))]
    }),
  )
  return series => values.get(series) ?? 0
}

/** Connections that a sidecar has let through and that have not ended. */
export async function openIn(pod: RunningPod): Promise<number> {
  const metric = await metricsOf(pod)
  const opened = DIRECTIONS.map(labels => metric(`postern_connections_opened_total{${labels}}`))
  const closed = DIRECTIONS.flatMap(labels =>
    ['ok', 'reset', 'closed'].map(outcome =>
      metric(`postern_connections_closed_total{${labels},outcome="${outcome}"}`),
    ),
  )
  return sum(opened) - sum(closed)
}

const DIRECTIONS = ['inbound', 'outbound'].flatMap(direction =>
  ['tunnel', 'plaintext', 'tls'].map(via => `direction="${direction}",via="${via}"`),
)
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

/** An access log line with these fields. */
export const isConnection = (fields: Record<string, unknown>) => (line: LogLine) =>
  line.msg === 'connection' && Object.entries(fields).every(([key, value]) => line[key] === value)

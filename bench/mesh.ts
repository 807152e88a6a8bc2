// Postern as a cluster runs it, less the cluster: the real injector from its bundle, the embedded API server, and pods as
// network namespaces whose init container and sidecar are started as injection wrote them, from the sidecar's bundle.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { NODE_FLAGS } from '../deploy/node-flags.ts'
import { type EmbeddedCluster, startEmbeddedCluster } from '../embedded/cluster/server.ts'
import type { KubeObject } from '../embedded/cluster/store.ts'
import {
  INIT_CONTAINER,
  INJECTOR_NAME,
  POLICY_LABEL,
  PROXY_CONTAINER,
  SYSTEM_NAMESPACE,
} from '../shared/names.ts'
import { INJECTOR_PORTS, PORTS, PROXY_UID } from '../shared/ports.ts'
import { enterNamespace } from '../test/support/enter-namespace.ts'
import type { Namespace, Network } from '../test/support/netns.ts'
import { startTlsFront, type TlsFront, writeTokenVolume } from './api-server.ts'
import { ownGroup } from './memory-group.ts'
import { lastLines, start } from './stage.ts'

export type Bundles = { readonly proxy: string; readonly injector: string }

export type Mesh = AsyncDisposable & {
  /** A YAML document of policy for every pod of the benchmark. */
  setPolicy(name: string, yaml: string): void
  startPod(pod: PodSpec): Promise<Sidecar>
}

export type PodSpec = {
  readonly name: string
  readonly namespace: Namespace
  readonly annotations?: Record<string, string>
}

export type Sidecar = AsyncDisposable & {
  readonly pid: number
  /** From the start of its process, after the init container's end, to the first answer of `/readyz`. */
  readonly readyMs: number
}

type Container = { name: string; args?: string[]; env?: Variable[] }
type Variable = { name: string; value?: string; valueFrom?: { fieldRef?: { fieldPath: string } } }

/** The Kubernetes namespace of the pods, and the service account of each is its name. */
export const KUBE_NAMESPACE = 'bench'
const NODE_NAME = 'node-1'
const READY_MS = 20_000

export async function startMesh(network: Network, directory: string, bundles: Bundles): Promise<Mesh> {
  await using stack = new AsyncDisposableStack()
  const host = network.node.ipv4 ?? ''
  stack.use(enterNamespace(network.node))
  const cluster = stack.use(await startEmbeddedCluster())
  const front = stack.use(await startTlsFront(cluster.url, host))
  seed(cluster, host)
  await startInjector(cluster, network.node, directory, bundles.injector)
  await webhooksTrusted(cluster)
  const lifetime = stack.move()
  return {
    setPolicy: (name, yaml) => {
      const metadata = { name, namespace: KUBE_NAMESPACE, labels: { [POLICY_LABEL]: 'true' } }
      cluster.store.create('configmaps', { metadata, data: { 'policy.yaml': yaml } })
    },
    startPod: pod => startPod({ cluster, front, network, directory, bundle: bundles.proxy }, pod),
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

function seed({ store }: EmbeddedCluster, host: string): void {
  const create = (resource: string, name: string, fields: object = {}) =>
    store.create(resource, { metadata: { name }, ...fields })
  for (const name of [SYSTEM_NAMESPACE, KUBE_NAMESPACE]) create('namespaces', name)
  create('nodes', NODE_NAME, { status: { addresses: [{ type: 'InternalIP', address: host }] } })
  const entry = (name: string) => ({
    name: `${name}.postern.dev`,
    clientConfig: { url: `https://${host}:${INJECTOR_PORTS.webhook}/inject/${name}` },
  })
  create('mutatingwebhookconfigurations', INJECTOR_NAME, { webhooks: [entry('pod'), entry('namespace')] })
}

async function startInjector(
  { url, access }: EmbeddedCluster,
  node: Namespace,
  directory: string,
  bundle: string,
): Promise<void> {
  const home = join(directory, 'injector')
  await mkdir(home)
  await writeFile(join(home, 'token'), access.issueToken(SYSTEM_NAMESPACE, INJECTOR_NAME))
  const controlAddress = `${node.ipv4}:${INJECTOR_PORTS.control}`
  const settings = { listenAddress: '::', controlAddress, prefixes: ['10.77.0.0/24', 'fd77::/64'] }
  await writeFile(join(home, 'config.yaml'), JSON.stringify(settings))
  const env = {
    PATH: process.env.PATH,
    POSTERN_API_SERVER: url,
    POSTERN_TOKEN_DIR: home,
    POSTERN_CONFIG_FILE: join(home, 'config.yaml'),
    POSTERN_SIDECAR_IMAGE: 'postern/proxy',
    POSTERN_POD_NAME: 'injector-0',
  }
  start(node, process.execPath, [...NODE_FLAGS, bundle], join(home, 'log'), { env })
}

async function webhooksTrusted({ store }: EmbeddedCluster): Promise<void> {
  type Webhooks = { webhooks?: { clientConfig: { caBundle?: string } }[] }
  const trusted = () => {
    const object = store.get('mutatingwebhookconfigurations', undefined, INJECTOR_NAME)
    const { webhooks = [] } = object as KubeObject & Webhooks
    return webhooks.every(({ clientConfig }) => clientConfig.caBundle)
  }
  await eventually(async () => trusted(), 'the injector did not publish its caBundle')
}

type Context = {
  readonly cluster: EmbeddedCluster
  readonly front: TlsFront
  readonly network: Network
  readonly directory: string
  readonly bundle: string
}

async function startPod(context: Context, spec: PodSpec): Promise<Sidecar> {
  const { cluster, front, network, directory, bundle } = context
  const { name, namespace } = spec
  const pod = await createThroughApi(cluster, spec)
  const podIPs = namespace.addresses.map(ip => ({ ip }))
  const conditions = [{ type: 'Ready', status: 'True' }]
  const status = { phase: 'Running', hostIP: network.node.ipv4, podIP: podIPs[0]?.ip, podIPs, conditions }
  cluster.store.replace('pods', { ...pod, status })

  const home = join(directory, `pod-${name}`)
  await mkdir(home)
  await writeTokenVolume(home, cluster.access.issueToken(KUBE_NAMESPACE, name, pod), front)
  await chown(home, PROXY_UID, PROXY_UID)
  const { initContainers = [] } = pod.spec as { initContainers?: Container[] }
  const run = (container: string, uid?: number): ChildProcess => {
    const { args = [], env = [] } = initContainers.find(({ name }) => name === container) ?? {}
    const fields = fieldsOf(pod, namespace, network.node.ipv4 ?? '')
    const outside = { POSTERN_API_SERVER: front.url, POSTERN_TOKEN_DIR: home, POSTERN_STATE_DIR: home }
    const environment = { PATH: process.env.PATH, ...environmentOf(env, fields), ...outside }
    const command = [...NODE_FLAGS, bundle, ...args]
    const log = join(directory, `${name}-${container}.log`)
    return start(namespace, process.execPath, command, log, { env: environment, ...(uid && { uid }) })
  }
  const [code] = await once(run(INIT_CONTAINER), 'exit')
  if (code !== 0) throw ended(directory, name, INIT_CONTAINER, code)
  const started = performance.now()
  const sidecar = run(PROXY_CONTAINER, PROXY_UID)
  ownGroup(sidecar.pid)
  await eventually(async () => {
    if (sidecar.exitCode !== null) throw ended(directory, name, PROXY_CONTAINER, sidecar.exitCode)
    return isReady(namespace.ipv4 ?? '')
  }, `the sidecar of ${name} is not ready`)
  return {
    pid: sidecar.pid ?? 0,
    readyMs: performance.now() - started,
    [Symbol.asyncDispose]: async () => {
      const hasEnded = sidecar.exitCode !== null || sidecar.signalCode !== null
      const exit = hasEnded ? undefined : once(sidecar, 'exit')
      sidecar.kill('SIGKILL')
      await exit
      cluster.store.delete('pods', KUBE_NAMESPACE, name)
    },
  }
}

async function createThroughApi(
  cluster: EmbeddedCluster,
  { name, annotations }: PodSpec,
): Promise<KubeObject> {
  const body = {
    metadata: {
      name,
      namespace: KUBE_NAMESPACE,
      labels: { app: name },
      annotations: { 'postern.dev/inject': 'enabled', ...annotations },
    },
    spec: { serviceAccountName: name, nodeName: NODE_NAME, containers: [{ name: 'app', image: 'none' }] },
  }
  const headers = {
    authorization: `Bearer ${cluster.access.adminToken}`,
    'content-type': 'application/json',
  }
  const path = `/api/v1/namespaces/${KUBE_NAMESPACE}/pods`
  const response = await fetch(`${cluster.url}${path}`, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`pod ${name} was refused: ${await response.text()}`)
  return (await response.json()) as KubeObject
}

/** The downward API. */
function fieldsOf(
  { metadata }: KubeObject,
  { addresses }: Namespace,
  hostIP: string,
): Record<string, string> {
  const { name = '', namespace = '', uid = '' } = metadata
  return {
    'metadata.name': name,
    'metadata.namespace': namespace,
    'metadata.uid': uid,
    'spec.serviceAccountName': name,
    'status.podIPs': addresses.join(','),
    'status.hostIP': hostIP,
  }
}

const environmentOf = (env: readonly Variable[], fields: Record<string, string>) =>
  Object.fromEntries(
    env.map(({ name, value, valueFrom }) => [
      name,
      value ?? fields[valueFrom?.fieldRef?.fieldPath ?? ''] ?? '',
    ]),
  )

const ended = (directory: string, name: string, container: string, code: unknown): Error =>
  new Error(
    `${container} of ${name} ended with ${code}:\n${lastLines(join(directory, `${name}-${container}.log`))}`,
  )

const isReady = (address: string): Promise<boolean> =>
  fetch(`http://${address}:${PORTS.status}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  )

async function eventually(done: () => Promise<boolean>, otherwise: string): Promise<void> {
  const deadline = performance.now() + READY_MS
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`${otherwise} after ${READY_MS / 1000} s`)
    await delay(5)
  }
}

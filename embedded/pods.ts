// The demo's kubelet: a pod created through the API server (so that the webhook sees it) becomes processes on an address
// of its own: the application, and the sidecar if injection put one in. What a kubelet would resolve (tokens, downward API)
// is resolved here; where a pod has nftables, the sidecar has a fixed table of listeners.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { PROXY_CONTAINER } from '../shared/names.ts'
import { PORTS } from '../shared/ports.ts'
import type { EmbeddedCluster } from './cluster/server.ts'
import type { KubeObject } from './cluster/store.ts'
import { followLines, type LogLines } from './log-lines.ts'
import type { FixedListener, FixedListeners } from './sidecar.ts'

export type PodSpec = {
  readonly name: string
  readonly namespace: string
  readonly serviceAccount: string
  readonly address: string
  readonly labels?: Record<string, string>
  readonly annotations?: Record<string, string>
  /** A file of embedded/apps and its arguments. */
  readonly app?: { readonly file: string; readonly args: readonly string[] }
  readonly outbound?: readonly FixedListener[]
  readonly inbound?: readonly FixedListener[]
}

export type RunningPod = AsyncDisposable &
  LogLines & {
    readonly name: string
    readonly uid: string
    /** Resolves when the sidecar has a certificate, trust and policy. @throws when it takes too long. */
    ready(): Promise<void>
  }

type Env = { name: string; value?: string; valueFrom?: { fieldRef?: { fieldPath: string } } }

const READY_MS = 15_000
const NODE_ADDRESS = '127.0.0.1'

/** Creates the pod and starts its processes; `ready()` says when its sidecar is. */
export async function startPod(
  cluster: EmbeddedCluster,
  directory: string,
  spec: PodSpec,
): Promise<RunningPod> {
  const { store } = cluster
  const { name, namespace, address, app } = spec
  await using undo = new AsyncDisposableStack()
  const created = await createThroughApi(cluster, spec)
  undo.defer(() => void store.delete('pods', namespace, name))
  const status = { phase: 'Running', podIP: address, podIPs: [{ ip: address }], hostIP: NODE_ADDRESS }
  const pod = store.replace('pods', { ...created, status })
  if (app) undo.use(run(join(import.meta.dirname, 'apps', app.file), app.args, {}))
  const sidecar = undo.use(await startSidecar(cluster, directory, spec, pod))
  const processes = undo.move()
  return {
    name,
    uid: pod.metadata.uid ?? '',
    ...sidecar.log,
    ready: () => becomesReady(spec, sidecar),
    [Symbol.asyncDispose]: () => processes.disposeAsync(),
  }
}

type Sidecar = AsyncDisposable & { readonly process: ChildProcess; readonly log: LogLines }

async function startSidecar(
  cluster: EmbeddedCluster,
  directory: string,
  spec: PodSpec,
  pod: KubeObject,
): Promise<Sidecar> {
  const { initContainers = [] } = pod.spec as { initContainers?: { name: string; env?: Env[] }[] }
  const container = initContainers.find(({ name }) => name === PROXY_CONTAINER)
  if (!container) throw new Error(`the webhook put no sidecar into pod ${spec.name}`)
  const home = join(directory, pod.metadata.uid ?? '')
  await mkdir(home, { recursive: true, mode: 0o700 })
  const token = cluster.access.issueToken(spec.namespace, spec.serviceAccount, pod)
  await writeFile(join(home, 'token'), token, { mode: 0o600 })
  const outside = { POSTERN_API_SERVER: cluster.url, POSTERN_TOKEN_DIR: home, POSTERN_STATE_DIR: home }
  const { address, outbound = [], inbound = [] } = spec
  const listeners: FixedListeners = { address, outbound, inbound }
  const started = run(join(import.meta.dirname, 'sidecar.ts'), [JSON.stringify(listeners)], {
    ...environment(container.env ?? [], pod),
    ...outside,
  })
  return { ...started, log: followLines(started.process) }
}

async function createThroughApi(cluster: EmbeddedCluster, spec: PodSpec): Promise<KubeObject> {
  const { name, namespace, serviceAccount, labels = {}, annotations = {} } = spec
  const body = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels, annotations },
    spec: {
      serviceAccountName: serviceAccount,
      nodeName: 'demo',
      containers: [{ name: 'app', image: 'legacy' }],
    },
  }
  const response = await fetch(`${cluster.url}/api/v1/namespaces/${namespace}/pods`, {
    method: 'POST',
    headers: { authorization: `Bearer ${cluster.access.adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const answer = (await response.json()) as KubeObject & { message?: string }
  if (!response.ok) throw new Error(`pod ${name} was refused: ${answer.message}`)
  return answer
}

/** The downward API: what injection asks of the kubelet. */
function environment(variables: readonly Env[], pod: KubeObject): Record<string, string> {
  const { podIP, hostIP } = pod.status as { podIP: string; hostIP: string }
  const { serviceAccountName } = pod.spec as { serviceAccountName: string }
  const { name = '', namespace = '', uid = '' } = pod.metadata
  const fields: Record<string, string> = {
    'metadata.name': name,
    'metadata.namespace': namespace,
    'metadata.uid': uid,
    'spec.serviceAccountName': serviceAccountName,
    'status.podIPs': podIP,
    'status.podIP': podIP,
    'status.hostIP': hostIP,
  }
  const resolved = ({ value, valueFrom }: Env) => value ?? fields[valueFrom?.fieldRef?.fieldPath ?? ''] ?? ''
  return Object.fromEntries(variables.map(variable => [variable.name, resolved(variable)]))
}

type Started = AsyncDisposable & { readonly process: ChildProcess }

function run(file: string, args: readonly string[], env: Record<string, string>): Started {
  const command = ['--disable-warning=ExperimentalWarning', file, ...args]
  const child = spawn(process.execPath, command, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  return { process: child, [Symbol.asyncDispose]: () => end(child) }
}

async function becomesReady({ name, address }: PodSpec, { process, log }: Sidecar): Promise<void> {
  const deadline = Date.now() + READY_MS
  while (Date.now() < deadline && process.exitCode === null) {
    const response = await fetch(`http://${address}:${PORTS.status}/readyz`).catch(() => undefined)
    if (response?.ok) return
    await delay(50)
  }
  const last = log.lines.findLast(({ code }) => code !== undefined) ?? log.lines.at(-1)
  throw new Error(
    `the sidecar of ${name} is not ready after ${READY_MS / 1000} s; it last logged ${JSON.stringify(last)}`,
  )
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

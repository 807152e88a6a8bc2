// A mesh on loopback around a real API server: replicas of the injector as processes with pods of their own, real sidecars
// as processes with fixed listeners where a pod has nftables, and a Service that leads to whichever replica lives.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { V1Pod } from '@kubernetes/client-node'
import { followLines, type LogLines } from '../../../embedded/log-lines.ts'
import type { FixedListener, FixedListeners } from '../../../embedded/sidecar.ts'
import type { Kube } from '../../../shared/kube/rest.ts'
import { INJECTOR_NAME, PROXY_CONTAINER } from '../../../shared/names.ts'
import { PORTS } from '../../../shared/ports.ts'
import { type ApiServer, startApiServer } from '../../support/api-server.ts'
import { containerOf } from '../../support/pods.ts'
import { freePorts } from '../../support/processes.ts'
import { type InjectorProcess, startInjectorProcess } from './injector-process.ts'
import { createNamespace, createServiceAccount, install, systemPath, until } from './installation.ts'
import { pointWebhooksAt } from './webhook-configurations.ts'

const EMBEDDED = fileURLToPath(new URL('../../../embedded', import.meta.url))
const MERGE = 'application/merge-patch+json'
export const MESH_NAMESPACE = 'shop'

export type PodOptions = {
  readonly name: string
  /** Of 127.0.0.0/8. */
  readonly address: string
  readonly outbound?: readonly FixedListener[]
  /** An HTTP server on this port. */
  readonly serves?: number
}

export type LoopbackPod = LogLines & { readonly name: string; readonly uid: string; readonly address: string }

export type LoopbackMesh = {
  readonly server: ApiServer
  readonly kube: Kube
  /** By name, those that live. */
  readonly replicas: ReadonlyMap<string, InjectorProcess>
  /** `main`: of another version, which `settings` must be known to. */
  startReplica(name: string, options?: { main?: string; settings?: object }): Promise<InjectorProcess>
  /** Without a word, and its pod with it. */
  killReplica(name: string): Promise<void>
  /** The name of the replica that leads. */
  leader(): Promise<string>
  /** A pod whose sidecar is ready. */
  startPod(options: PodOptions): Promise<LoopbackPod>
  /** A pod with a sidecar that never runs. */
  createPod(name: string, address: string): Promise<V1Pod>
}

/** Everything ends with `stack`. */
export async function startLoopbackMesh(
  stack: AsyncDisposableStack,
  settings: object,
): Promise<LoopbackMesh> {
  const directory = await mkdtemp(join(tmpdir(), 'postern-mesh-'))
  stack.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const server = stack.use(await startApiServer())
  const { kube } = server
  await install(server)
  await createNamespace(kube, MESH_NAMESPACE)
  await kube.create('/api/v1/nodes', { metadata: { name: 'node-1' } })
  const replicas = new Map<string, InjectorProcess>()
  const service = stack.use(await forwardTo(() => [...replicas.values()].map(({ ports }) => ports.control)))
  const common = { controlAddress: `127.0.0.1:${service.port}`, prefixes: ['127.77.0.0/16'] }

  const startReplica: LoopbackMesh['startReplica'] = async (
    name,
    { main, settings: other = settings } = {},
  ) => {
    const options = { name, directory, settings: { ...common, ...other }, ...(main && { main }) }
    const replica = await startInjectorProcess(server, options)
    stack.defer(() => replica.running.stop('SIGKILL'))
    await createReplicaPod(kube, name, replica.ports.control)
    await replica.ready()
    replicas.set(name, replica)
    if (replicas.size === 1) await pointWebhooksAt(server, replica)
    return replica
  }
  const createPod = async (name: string, address: string) => {
    const pod = await admitted(kube, name)
    await report(kube, `/api/v1/namespaces/${MESH_NAMESPACE}/pods/${name}`, address)
    return pod
  }
  return {
    server,
    kube,
    replicas,
    startReplica,
    killReplica: async name => {
      await replicas.get(name)?.running.stop('SIGKILL')
      replicas.delete(name)
      await kube.delete(systemPath(`pods/${name}`), { gracePeriodSeconds: 0 })
    },
    leader: async () => {
      let found = ''
      await until(async () => {
        for (const [name, replica] of replicas)
          if ((await replica.metric('postern_leader').catch(() => 0)) === 1) found = name
        return replicas.has(found)
      })
      return found
    },
    startPod: async options => {
      const pod = await createPod(options.name, options.address)
      return stack.use(await startSidecar(server, directory, pod, options))
    },
    createPod,
  }
}

/** As the Deployment makes it, where the other replicas look for it. */
async function createReplicaPod(kube: Kube, name: string, containerPort: number): Promise<void> {
  await kube.create(systemPath('pods'), {
    metadata: { name },
    spec: {
      serviceAccountName: INJECTOR_NAME,
      nodeName: 'node-1',
      securityContext: { runAsNonRoot: true, runAsUser: 1, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'injector',
          image: 'none',
          ports: [{ name: 'control', containerPort }],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  })
  await report(kube, systemPath(`pods/${name}`), '127.0.0.1')
}

const report = (kube: Kube, path: string, ip: string) =>
  kube.patch(`${path}/status`, MERGE, { status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] } })

/** A pod that opted in, as the API server stored it after the webhook. */
async function admitted(kube: Kube, name: string): Promise<V1Pod> {
  await createServiceAccount(kube, MESH_NAMESPACE, name)
  const create = (query = '') =>
    kube.create<V1Pod>(`/api/v1/namespaces/${MESH_NAMESPACE}/pods${query}`, {
      metadata: { name, annotations: { 'postern.dev/inject': 'enabled' } },
      spec: { serviceAccountName: name, nodeName: 'node-1', containers: [{ name: 'app', image: 'none' }] },
    })
  // The caBundle takes a moment to be written, and to be read.
  await until(() =>
    create('?dryRun=All').then(
      pod => pod.spec?.initContainers !== undefined,
      () => false,
    ),
  )
  return create()
}

async function startSidecar(
  server: ApiServer,
  directory: string,
  pod: V1Pod,
  { name, address, outbound = [], serves }: PodOptions,
): Promise<LoopbackPod & AsyncDisposable> {
  await using stack = new AsyncDisposableStack()
  const { uid = '' } = pod.metadata ?? {}
  const home = join(directory, uid)
  await mkdir(home, { mode: 0o700 })
  await writeFile(join(home, 'ca.crt'), server.ca)
  await writeFile(join(home, 'token'), await server.tokenFor(MESH_NAMESPACE, name, { pod: { name, uid } }))
  if (serves !== undefined) stack.use(run('apps/server.ts', [address, String(serves)], {}))
  const listeners: FixedListeners = { address, outbound, inbound: [] }
  const sidecar = stack.use(
    run('sidecar.ts', [JSON.stringify(listeners)], {
      ...environment(pod, address),
      POSTERN_API_SERVER: server.serverUrl,
      POSTERN_TOKEN_DIR: home,
      POSTERN_STATE_DIR: home,
    }),
  )
  const log = followLines(sidecar.child)
  await until(() =>
    fetch(`http://${address}:${PORTS.status}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    ),
  )
  const lifetime = stack.move()
  return { name, uid, address, ...log, [Symbol.asyncDispose]: () => lifetime.disposeAsync() }
}

/** What injection asks of the kubelet. */
function environment(pod: V1Pod, address: string): Record<string, string> {
  const { name = '', namespace = '', uid = '' } = pod.metadata ?? {}
  const fields: Record<string, string> = {
    'metadata.name': name,
    'metadata.namespace': namespace,
    'metadata.uid': uid,
    'spec.serviceAccountName': pod.spec?.serviceAccountName ?? '',
    'status.podIPs': address,
    'status.hostIP': '127.0.0.1',
  }
  const { env = [] } = containerOf(pod, PROXY_CONTAINER)
  return Object.fromEntries(
    env.map(({ name, value, valueFrom }) => [
      name,
      value ?? fields[valueFrom?.fieldRef?.fieldPath ?? ''] ?? '',
    ]),
  )
}

type Started = AsyncDisposable & { readonly child: ChildProcess }

/** A program of the demo: it ends when its standard input does. */
function run(file: string, args: readonly string[], env: Record<string, string>): Started {
  const command = ['--disable-warning=ExperimentalWarning', join(EMBEDDED, file), ...args]
  const child = spawn(process.execPath, command, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  return {
    child,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}

/** Dials from the caller's own address, which the injector compares with the pod's. */
async function forwardTo(
  ports: () => readonly number[],
): Promise<AsyncDisposable & { readonly port: number }> {
  const open = new Set<Socket>()
  const server = createServer(socket => {
    const [port] = ports().toSorted(() => Math.random() - 0.5)
    if (port === undefined) {
      socket.destroy()
      return
    }
    const onward = connect({ host: '127.0.0.1', port, localAddress: socket.remoteAddress ?? '' })
    for (const [end, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      open.add(end)
      end.on('error', () => other.destroy())
      end.on('close', () => {
        open.delete(end)
        other.destroy()
      })
      end.pipe(other)
    }
  })
  const [port = 0] = await freePorts(1)
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      server.close()
      for (const socket of open) socket.destroy()
      await delay(0)
    },
  }
}

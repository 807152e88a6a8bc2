// What a kubelet does for a pod that the API server admitted, with a network namespace as the pod: gives it addresses
// and a token, runs the init container to its end and then the sidecar, from the environment in the pod's own spec.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { V1Container, V1Pod } from '@kubernetes/client-node'
import { NODE_FLAGS } from '../../deploy/node-flags.ts'
import { live } from '../../shared/live.ts'
import { CERT_FILES_DIR, CERTIFICATE_DIR, INIT_CONTAINER, PROXY_CONTAINER } from '../../shared/names.ts'
import { PROXY_UID } from '../../shared/ports.ts'
import type { ApiServer } from './api-server.ts'
import type { Namespace, Network } from './netns.ts'
import { containerOf } from './pods.ts'

export type LogLine = Readonly<Record<string, unknown>>

export type RunningPod = AsyncDisposable & {
  readonly namespace: Namespace
  readonly ipv4: string
  readonly ipv6: string
  readonly pod: V1Pod
  /** The one that was started last. */
  readonly sidecar: ChildProcess
  /** Starts the sidecar again, which has ended; its volume has survived. */
  restart(): void
  /** The directory of that volume. */
  readonly stateDir: string
  /** The end of the sidecar's log so far. */
  readonly lines: readonly LogLine[]
  /** The first line, past or to come, that has these fields. */
  line(test: (line: LogLine) => boolean): Promise<LogLine>
}

const MAIN = fileURLToPath(new URL('../../proxy/main.ts', import.meta.url))
const LINE_TIMEOUT_MS = 20_000
/** A soak logs millions. */
const KEPT_LINES = 20_000

/** Tells the API server that the pod runs, and at which addresses. */
export async function reportRunning(
  { kube }: ApiServer,
  { node }: Network,
  { metadata }: V1Pod,
  { addresses }: Namespace,
): Promise<void> {
  const path = `/api/v1/namespaces/${metadata?.namespace}/pods/${metadata?.name}/status`
  await kube.patch(path, 'application/merge-patch+json', {
    status: {
      phase: 'Running',
      hostIP: node.ipv4,
      podIP: addresses[0],
      podIPs: addresses.map(ip => ({ ip })),
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  })
}

export type PodPlace = {
  /** One that the test has made for it, instead of one of its own. */
  readonly namespace?: Namespace | undefined
  /** The `proxy/main.ts` of another version. */
  readonly main?: string | undefined
  /** Directories by the name of the pod's volume that they are. */
  readonly volumes?: Readonly<Record<string, string>> | undefined
}

export async function runPod(
  server: ApiServer,
  network: Network,
  pod: V1Pod,
  { namespace: given, main = MAIN, volumes = {} }: PodPlace = {},
): Promise<RunningPod> {
  const { name = '', namespace: kubeNamespace = '', uid = '' } = pod.metadata ?? {}
  const serviceAccount = pod.spec?.serviceAccountName ?? ''
  await using stack = new AsyncDisposableStack()
  const namespace = given ?? (await network.createPod(name))
  await reportRunning(server, network, pod, namespace)
  const directory = await mkdtemp(join(tmpdir(), 'postern-pod-'))
  stack.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const [tokenDir, stateDir] = [join(directory, 'token'), join(directory, 'state')]
  await mkdir(tokenDir)
  await mkdir(stateDir, { mode: 0o700 })
  await chown(directory, PROXY_UID, PROXY_UID)
  await chown(stateDir, PROXY_UID, PROXY_UID)
  await writeFile(join(tokenDir, 'ca.crt'), server.ca)
  const token = await server.tokenFor(kubeNamespace, serviceAccount, { pod: { name, uid } })
  await writeFile(join(tokenDir, 'token'), token)

  const { hostname, port } = new URL(server.serverUrl)
  const fields: Record<string, string> = {
    'metadata.name': name,
    'metadata.namespace': kubeNamespace,
    'metadata.uid': uid,
    'spec.serviceAccountName': serviceAccount,
    'status.podIPs': namespace.addresses.join(','),
    'status.hostIP': network.node.ipv4 ?? '',
  }
  const environment = (container: V1Container) => ({
    ...Object.fromEntries(
      (container.env ?? []).map(({ name, value, valueFrom }) => [
        name,
        value ?? fields[valueFrom?.fieldRef?.fieldPath ?? ''],
      ]),
    ),
    PATH: process.env.PATH,
    KUBERNETES_SERVICE_HOST: hostname,
    KUBERNETES_SERVICE_PORT: port,
    POSTERN_TOKEN_DIR: tokenDir,
    POSTERN_STATE_DIR: stateDir,
    POSTERN_CERTIFICATE_DIR: mountedAt(container, CERTIFICATE_DIR, volumes),
    POSTERN_CERT_FILES_DIR: mountedAt(container, CERT_FILES_DIR, volumes),
  })
  const start = (container: string, uid?: number) => {
    const { args = [], env } = {
      ...containerOf(pod, container),
      env: environment(containerOf(pod, container)),
    }
    const options = { env, stdio: ['ignore', 'pipe', 'inherit'] as const, ...(uid !== undefined && { uid }) }
    return namespace.spawn(process.execPath, [...NODE_FLAGS, main, ...args], {
      ...options,
      stdio: [...options.stdio],
    })
  }
  const init = start(INIT_CONTAINER)
  const [output, [status]] = await Promise.all([text(init.stdout as Readable), once(init, 'exit')])
  if (status !== 0) throw new Error(`the init container of ${name} ended with ${status}: ${output}`)
  const log = createLog()
  const startSidecar = () => {
    const started = start(PROXY_CONTAINER, PROXY_UID)
    log.follow(started.stdout as Readable)
    return started
  }
  let sidecar = startSidecar()
  stack.defer(() => stop(sidecar))
  const lifetime = stack.move()
  return {
    namespace,
    ipv4: namespace.ipv4 ?? '',
    ipv6: namespace.ipv6 ?? '',
    pod,
    get sidecar() {
      return sidecar
    },
    restart: () => {
      sidecar = startSidecar()
    },
    stateDir,
    lines: log.lines,
    line: log.line,
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

/** The directory of the volume that the container mounts there. */
function mountedAt(
  { volumeMounts = [] }: V1Container,
  path: string,
  volumes: Readonly<Record<string, string>>,
): string | undefined {
  const mount = volumeMounts.find(({ mountPath }) => mountPath === path)
  return mount && volumes[mount.name]
}

function createLog(): Pick<RunningPod, 'lines' | 'line'> & { follow(output: Readable): void } {
  const lines: LogLine[] = []
  const latest = live<LogLine>({})
  return {
    lines,
    follow: output => {
      createInterface(output).on('line', text => {
        const line: LogLine = JSON.parse(text)
        lines.push(line)
        if (lines.length > 2 * KEPT_LINES) lines.splice(0, KEPT_LINES)
        latest.set(line)
      })
    },
    line: test => {
      const { promise, resolve, reject } = Promise.withResolvers<LogLine>()
      const timer = setTimeout(() => {
        stop()
        const last = lines.slice(-20).map(line => line.code ?? line.msg)
        reject(new Error(`no such line; the last are ${last.join(', ')}`))
      }, LINE_TIMEOUT_MS)
      const look = (line: LogLine) => {
        if (!test(line)) return
        stop()
        resolve(line)
      }
      const unsubscribe = latest.subscribe(look)
      const stop = () => {
        clearTimeout(timer)
        unsubscribe()
      }
      const past = lines.find(test)
      if (past) look(past)
      return promise
    },
  }
}

/** What is done first to a pod that is deleted, and what comes of it. */
export async function terminate({
  sidecar,
}: Pick<RunningPod, 'sidecar'>): Promise<{ status: number | null; ms: number }> {
  const started = performance.now()
  const exited = once(sidecar, 'exit')
  sidecar.kill('SIGTERM')
  const [status] = await exited
  return { status, ms: performance.now() - started }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

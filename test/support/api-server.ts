// A real etcd and kube-apiserver for a test: RBAC, admission and the certificates API as in a cluster, without nodes.
// A Service of type ExternalName `localhost` lets a webhook's service reference reach a server in the test.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectKube, type Kube, type KubeEndpoint } from '../../shared/kube/rest.ts'
import { binary } from '../cluster/binaries.ts'
import {
  apiServerArguments,
  apiServerIsReady,
  controllerManagerArguments,
  etcdArguments,
  writeControlPlaneFiles,
} from './control-plane.ts'
import { freePorts, type Output, type Running, run, startProgram, waitUntilReady } from './processes.ts'

export type ApiServerOptions = {
  /** Address to serve on, for instance a bridge that network namespaces reach. */
  readonly address?: string
  /** Also runs kube-controller-manager: service accounts, root CA ConfigMaps, deletion of namespaces. */
  readonly controllerManager?: boolean
  /** More flags of kube-apiserver. */
  readonly flags?: readonly string[]
}

/** Binds a token to a pod, as the kubelet does. */
export type PodReference = { readonly name: string; readonly uid: string }

export type ApiServer = AsyncDisposable & {
  /** With the client certificate of a cluster administrator. */
  readonly endpoint: KubeEndpoint
  readonly kube: Kube
  readonly serverUrl: string
  readonly ca: string
  kubectl(args: readonly string[], stdin?: string): Promise<Output>
  /** A token of the service account by TokenRequest. */
  tokenFor(namespace: string, serviceAccount: string, bound?: { readonly pod: PodReference }): Promise<string>
  /** The endpoint as seen by whoever holds `token`. */
  endpointFor(token: string): KubeEndpoint
  /** An outage of the API server; etcd keeps what it has. */
  stop(): Promise<void>
  start(): Promise<void>
}

const START_TIMEOUT_MS = 60_000
/** Nobody writes tokens anew, as a kubelet does. */
const TOKEN_SECONDS = 24 * 3600

export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const { address = '127.0.0.1', controllerManager = false, flags = [] } = options
  const programs = {
    etcd: await binary('etcd'),
    'kube-apiserver': await binary('kube-apiserver'),
    kubectl: await binary('kubectl'),
  }
  await using undo = new AsyncDisposableStack()
  const directory = await mkdtemp(join(tmpdir(), 'postern-api-'))
  undo.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }))
  const [client = 0, peer = 0] = await freePorts(2)
  const [secure = 0] = await freePorts(1, address)
  const serverUrl = `https://${address}:${secure}`
  const { authority, endpoint, kubeconfig } = await writeControlPlaneFiles(directory, serverUrl, [address])
  const kube = undo.use(connectKube(endpoint))

  const etcdLog = join(directory, 'etcd.log')
  const etcdUrl = `http://127.0.0.1:${client}`
  const etcd = startProgram({
    command: programs.etcd,
    args: etcdArguments(directory, etcdUrl, `http://127.0.0.1:${peer}`),
    log: etcdLog,
  })
  undo.use(etcd)
  const healthy = async () => (await fetch(`${etcdUrl}/health`)).ok
  await waitUntilReady('etcd', healthy, { timeoutMs: START_TIMEOUT_MS, running: etcd, log: etcdLog })

  let apiServer: Running | undefined
  const start = async () => {
    const log = join(directory, 'kube-apiserver.log')
    const serving = [`--bind-address=${address}`, `--secure-port=${secure}`]
    const args = [
      ...apiServerArguments(directory, etcdUrl),
      ...serving,
      '--endpoint-reconciler-type=none',
      ...flags,
    ]
    apiServer = startProgram({ command: programs['kube-apiserver'], args, log })
    await waitUntilReady('kube-apiserver', () => apiServerIsReady(kube), {
      timeoutMs: START_TIMEOUT_MS,
      running: apiServer,
      log,
    })
  }
  const stop = async () => {
    await apiServer?.stop('SIGKILL')
    apiServer = undefined
  }
  undo.defer(stop)
  await start()
  if (controllerManager) {
    const command = await binary('kube-controller-manager')
    const args = controllerManagerArguments(directory, kubeconfig)
    undo.use(startProgram({ command, args, log: join(directory, 'kube-controller-manager.log') }))
  }

  const lifetime = undo.move()
  return {
    endpoint,
    kube,
    serverUrl,
    ca: authority.cert,
    kubectl: (args, stdin) => run(programs.kubectl, [`--kubeconfig=${kubeconfig}`, ...args], stdin),
    tokenFor: async (namespace, serviceAccount, bound) => {
      const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`
      const boundObjectRef = bound && { kind: 'Pod', apiVersion: 'v1', ...bound.pod }
      const { status } = await kube.create<TokenRequest>(path, {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: TOKEN_SECONDS, ...(boundObjectRef && { boundObjectRef }) },
      })
      if (!status) throw new Error('the API server answered a TokenRequest without a token')
      return status.token
    },
    endpointFor: token => ({ server: serverUrl, ca: authority.cert, token }),
    stop,
    start,
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

type TokenRequest = {
  readonly apiVersion: string
  readonly kind: string
  readonly spec: object
  readonly status?: { readonly token: string }
}

// A real etcd and kube-apiserver for a test: RBAC, admission and the certificates API as in a cluster, without nodes.
// A Service of type ExternalName `localhost` lets a webhook's service reference reach a server in the test.
import { cp, mkdtemp, rm } from 'node:fs/promises'
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
  /** With other flags than at first where they are given, as after an upgrade. */
  start(flags?: readonly string[]): Promise<void>
  /** Copies what etcd holds now; it and the API server are stopped meanwhile. */
  backUp(): Promise<Backup>
  /**
   * Puts etcd back to what it held then, with the resource versions of then: an operator's restoration after a disaster.
   * The API server is ended by the signal: after SIGTERM it closes its watches in order.
   */
  restore(backup: Backup, signal?: NodeJS.Signals): Promise<void>
}

/** A copy of etcd's data directory. */
export type Backup = { readonly directory: string }

/** ClusterTrustBundles are off by default before 1.37. */
export const CLUSTER_TRUST_BUNDLE_FLAGS = [
  '--feature-gates=ClusterTrustBundle=true',
  '--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true',
]

/** So are PodCertificateRequests. NodeRestriction is what holds kubelets to their own pods; any real cluster has it. */
export const POD_CERTIFICATE_FLAGS = [
  '--feature-gates=PodCertificateRequest=true',
  '--runtime-config=certificates.k8s.io/v1beta1/podcertificaterequests=true',
  '--enable-admission-plugins=NodeRestriction',
]

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
  const startEtcd = async () => {
    const args = etcdArguments(directory, etcdUrl, `http://127.0.0.1:${peer}`)
    const running = startProgram({ command: programs.etcd, args, log: etcdLog })
    const healthy = async () => (await fetch(`${etcdUrl}/health`)).ok
    await waitUntilReady('etcd', healthy, { timeoutMs: START_TIMEOUT_MS, running, log: etcdLog })
    return running
  }
  let etcd = await startEtcd()
  undo.defer(() => etcd.stop())

  let apiServer: Running | undefined
  const start = async (more = flags) => {
    const log = join(directory, 'kube-apiserver.log')
    const serving = [`--bind-address=${address}`, `--secure-port=${secure}`]
    const args = [
      ...apiServerArguments(directory, etcdUrl),
      ...serving,
      '--endpoint-reconciler-type=none',
      ...more,
    ]
    apiServer = startProgram({ command: programs['kube-apiserver'], args, log })
    await waitUntilReady('kube-apiserver', () => apiServerIsReady(kube), {
      timeoutMs: START_TIMEOUT_MS,
      running: apiServer,
      log,
    })
  }
  const stop = async (signal: NodeJS.Signals = 'SIGKILL') => {
    await apiServer?.stop(signal)
    apiServer = undefined
  }
  /** Runs `work` on etcd's files while nobody writes them. */
  const withoutEtcd = async (signal: NodeJS.Signals, work: () => Promise<void>) => {
    await stop(signal)
    await etcd.stop()
    await work()
    etcd = await startEtcd()
    await start()
  }
  undo.defer(() => stop())
  let backups = 0
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
    stop: () => stop(),
    start,
    backUp: async () => {
      const backup = { directory: join(directory, `backup-${backups++}`) }
      await withoutEtcd('SIGKILL', () => cp(join(directory, 'etcd'), backup.directory, { recursive: true }))
      return backup
    },
    restore: (backup, signal = 'SIGKILL') =>
      withoutEtcd(signal, async () => {
        await rm(join(directory, 'etcd'), { recursive: true })
        await cp(backup.directory, join(directory, 'etcd'), { recursive: true })
      }),
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

type TokenRequest = {
  readonly apiVersion: string
  readonly kind: string
  readonly spec: object
  readonly status?: { readonly token: string }
}

// A real Kubernetes of one node on this machine, in namespaces of its own: etcd, kube-apiserver, controller manager,
// scheduler, containerd, kubelet, kube-proxy, CoreDNS and the images of this project. Idempotent; kept until `down`.
import { Resolver } from 'node:dns/promises'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { connectKube, type Kube, type KubeEndpoint } from '../../shared/kube/rest.ts'
import {
  apiServerArguments,
  apiServerIsReady,
  controllerManagerArguments,
  etcdArguments,
  SERVICE_API_ADDRESS,
  writeControlPlaneFiles,
} from '../support/control-plane.ts'
import { type Output, run, waitUntilReady } from '../support/processes.ts'
import { builtBinaries } from './binaries.ts'
import { cgroupOf, createCgroup, removeCgroup } from './cgroup.ts'
import { IMAGES_AS_DEPLOYED, imageArchives } from './images.ts'
import { CONTAINERD_SOCKET, configureNode, kubeletArguments, NODE_NAME } from './node.ts'
import {
  createSandbox,
  destroySandbox,
  inside,
  isAlive,
  loadSandbox,
  must,
  NODE_ADDRESS,
  runsInside,
  type Sandbox,
  startInside,
  stopInside,
} from './sandbox.ts'

export type Cluster = Disposable & {
  readonly directory: string
  /** An administrator's, reachable from the host. */
  readonly endpoint: KubeEndpoint
  readonly kube: Kube
  readonly sandbox: Sandbox
  /** The images that its node holds, each name with the hash of what went in. */
  readonly images: readonly string[]
  kubectl(args: readonly string[], stdin?: string): Promise<Output>
  /** Runs a command in the node's namespaces, where every pod and Service is reachable. */
  onNode(...command: string[]): Promise<Output>
  stopApiServer(): Promise<void>
  startApiServer(): Promise<void>
  /** As after a crash: pods go on. */
  restartKubelet(): Promise<void>
}

const PROGRAMS = [
  'etcd',
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'containerd',
  'kubelet',
  'kube-proxy',
  'coredns',
] as const

const ETCD_URL = 'http://127.0.0.1:2379'
const API_PORT = 6443

/** Another name gives a person a cluster that no test of somebody else touches. */
export const CLUSTER_NAME = process.env.POSTERN_CLUSTER ?? 'test'

export const clusterDirectory = (name: string): string => join(tmpdir(), `postern-cluster-${name}`)
const endpointFile = (directory: string) => join(directory, 'endpoint.json')
const gatesFile = (directory: string) => join(directory, 'feature-gates.json')
const imagesFile = (directory: string) => join(directory, 'images.json')

/** Of Kubernetes, beyond those that are on by default. */
export type FeatureGate = 'PodCertificateRequest'

/**
 * Starts the cluster unless it is up, with the images of the present source; one that is half up is removed first. What needs
 * feature gates has a cluster of its own name.
 */
export async function up(name = CLUSTER_NAME, gates: readonly FeatureGate[] = []): Promise<Cluster> {
  using existing = await attach(name)
  if (existing) {
    const has = await gatesOf(existing.directory)
    const lacks = gates.filter(gate => !has.includes(gate))
    if (lacks.length > 0)
      throw new Error(`cluster ${name} is up without the feature gates ${lacks.join(', ')}`)
    await loadImages(existing.sandbox)
    return clusterOf(existing.sandbox, existing.endpoint)
  }
  await down(name)
  const programs = await builtBinaries(...PROGRAMS, 'kubectl', 'containerd-shim-runc-v2', 'ctr')
  // Slow at first: before anything runs.
  await imageArchives()
  const directory = clusterDirectory(name)
  await mkdir(directory, { mode: 0o700 })
  const sandbox = await createSandbox(name, directory)
  await createCgroup(name)
  const serverUrl = `https://${sandbox.insideAddress}:${API_PORT}`
  const addresses = [NODE_ADDRESS, sandbox.insideAddress]
  const files = await writeControlPlaneFiles(directory, serverUrl, addresses)
  const node = await configureNode({ directory, cgroup: cgroupOf(name), gates, ...files })
  await writeFile(gatesFile(directory), JSON.stringify(gates))

  const path = [dirname(programs['containerd-shim-runc-v2']), process.env.PATH, '/usr/sbin', '/sbin'].join(
    ':',
  )
  const start = (program: (typeof PROGRAMS)[number], args: readonly string[]) =>
    startInside(sandbox, program, programs[program], args, path)
  start('etcd', etcdArguments(directory, ETCD_URL, 'http://127.0.0.1:2380'))
  start('containerd', node.containerd)
  start('kube-apiserver', await apiServerFlags(directory))
  using kube = connectKube(files.endpoint)
  await ready(sandbox, 'kube-apiserver', () => apiServerIsReady(kube))
  start('kube-controller-manager', [
    ...controllerManagerArguments(directory, files.kubeconfig),
    ...gateFlags(gates),
  ])
  start('kube-scheduler', [`--kubeconfig=${files.kubeconfig}`, '--leader-elect=false', '--secure-port=0'])
  start('kube-proxy', node['kube-proxy'])
  start('coredns', node.coredns)
  const ctr = await ctrOf(sandbox)
  await ready(sandbox, 'containerd', async () => (await run(...ctr('version'))).code === 0)
  start('kubelet', node.kubelet)
  await loadImages(sandbox)
  await ready(sandbox, 'kubelet', () => nodeIsReady(kube))
  await ready(sandbox, 'coredns', () => dnsAnswers(sandbox))
  await writeFile(endpointFile(directory), JSON.stringify(files.endpoint), { mode: 0o600 })
  return clusterOf(sandbox, files.endpoint)
}

/** Brings the node's images up to the present source. */
async function loadImages(sandbox: Sandbox): Promise<void> {
  const ctr = await ctrOf(sandbox)
  const images = (...args: string[]) => must(...ctr('--namespace=k8s.io', 'images', ...args))
  const loaded = await readImages(sandbox.directory)
  const archives = await imageArchives()
  for (const archive of archives) if (!loaded.includes(basename(archive))) await images('import', archive)
  for (const [image, deployed] of Object.entries(IMAGES_AS_DEPLOYED))
    await images('tag', '--force', image, deployed)
  await writeFile(imagesFile(sandbox.directory), JSON.stringify(archives.map(path => basename(path))))
}

const readImages = async (directory: string): Promise<string[]> =>
  JSON.parse(await readFile(imagesFile(directory), 'utf8').catch(() => '[]'))

async function ctrOf(sandbox: Sandbox) {
  const { ctr } = await builtBinaries('ctr')
  return (...args: string[]) => inside(sandbox, ctr, `--address=${CONTAINERD_SOCKET}`, ...args)
}

/** The cluster of that name if it is up. */
export async function attach(name = CLUSTER_NAME): Promise<Cluster | undefined> {
  const directory = clusterDirectory(name)
  const sandbox = await loadSandbox(directory)
  const endpoint = await readFile(endpointFile(directory), 'utf8').catch(() => undefined)
  if (!sandbox || !endpoint || !(await isAlive(sandbox))) return undefined
  return clusterOf(sandbox, JSON.parse(endpoint) as KubeEndpoint)
}

/** Removes the cluster and everything of it, whatever state it is in. */
export async function down(name = CLUSTER_NAME): Promise<void> {
  const directory = clusterDirectory(name)
  const sandbox = await loadSandbox(directory)
  if (sandbox) await destroySandbox(sandbox)
  await removeCgroup(name)
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
}

/** Which of its programs run. */
export async function status(cluster: Cluster): Promise<Record<string, boolean>> {
  const running: Record<string, boolean> = {}
  for (const program of PROGRAMS) running[program] = await runsInside(cluster.sandbox, program)
  return running
}

async function clusterOf(sandbox: Sandbox, endpoint: KubeEndpoint): Promise<Cluster> {
  const { directory } = sandbox
  const programs = await builtBinaries('kubectl', 'kube-apiserver', 'kubelet')
  const kube = connectKube(endpoint)
  const kubeconfig = join(directory, 'admin.kubeconfig')
  return {
    directory,
    endpoint,
    kube,
    sandbox,
    images: await readImages(directory),
    kubectl: (args, stdin) => run(programs.kubectl, [`--kubeconfig=${kubeconfig}`, ...args], stdin),
    onNode: (...command) => run(...inside(sandbox, ...command)),
    stopApiServer: () => stopInside(sandbox, 'kube-apiserver', 'KILL'),
    startApiServer: async () => {
      startInside(sandbox, 'kube-apiserver', programs['kube-apiserver'], await apiServerFlags(directory))
      await ready(sandbox, 'kube-apiserver', () => apiServerIsReady(kube))
    },
    restartKubelet: async () => {
      await stopInside(sandbox, 'kubelet', 'KILL')
      startInside(sandbox, 'kubelet', programs.kubelet, kubeletArguments(directory))
    },
    [Symbol.dispose]: () => kube[Symbol.dispose](),
  }
}

const gatesOf = async (directory: string): Promise<FeatureGate[]> =>
  JSON.parse(await readFile(gatesFile(directory), 'utf8').catch(() => '[]'))

async function apiServerFlags(directory: string): Promise<string[]> {
  const gates = await gatesOf(directory)
  return [
    ...apiServerArguments(directory, ETCD_URL),
    `--secure-port=${API_PORT}`,
    `--advertise-address=${NODE_ADDRESS}`,
    ...gateFlags(gates),
    ...(gates.includes('PodCertificateRequest') ? POD_CERTIFICATES : []),
  ]
}

const gateFlags = (gates: readonly FeatureGate[]): string[] =>
  gates.length === 0 ? [] : [`--feature-gates=${gates.map(gate => `${gate}=true`).join()}`]

const POD_CERTIFICATES = [
  '--runtime-config=certificates.k8s.io/v1beta1/podcertificaterequests=true',
  '--enable-admission-plugins=NodeRestriction',
]

const ready = (sandbox: Sandbox, program: string, test: () => Promise<boolean>) =>
  waitUntilReady(program, test, { timeoutMs: 120_000, log: join(sandbox.directory, `${program}.log`) })

type Node = { readonly status: { readonly conditions: readonly { type: string; status: string }[] } }

async function nodeIsReady(kube: Kube): Promise<boolean> {
  const { status } = await kube.get<Node>(`/api/v1/nodes/${NODE_NAME}`)
  await kube.get('/api/v1/namespaces/default/serviceaccounts/default')
  return status.conditions.some(({ type, status }) => type === 'Ready' && status === 'True')
}

async function dnsAnswers({ insideAddress }: Sandbox): Promise<boolean> {
  const resolver = new Resolver({ timeout: 1_000, tries: 1 })
  resolver.setServers([insideAddress])
  const addresses = await resolver.resolve4('kubernetes.default.svc.cluster.local')
  return addresses.includes(SERVICE_API_ADDRESS)
}

/** The cluster for a test file: the one that is up, or a new one for this file alone. */
export async function useCluster(
  test: { teardown(after: () => unknown): unknown },
  name = CLUSTER_NAME,
  gates: readonly FeatureGate[] = [],
): Promise<Cluster> {
  using before = await attach(name)
  const cluster = await up(name, gates)
  test.teardown(async () => {
    cluster[Symbol.dispose]()
    if (!before) await down(name)
  })
  return cluster
}

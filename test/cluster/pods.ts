// Small things that each cluster test does with pods: apply manifests, wait for phases, read logs, run commands.
import { setTimeout as delay } from 'node:timers/promises'
import type { KubernetesObject, V1Container, V1Pod, V1PodSpec } from '@kubernetes/client-node'
import { stringify } from 'yaml'
import { INJECT_KEY } from '../../shared/names.ts'
import type { Output } from '../support/processes.ts'
import type { Cluster } from './cluster.ts'
import { APPS_IMAGE } from './images.ts'

/** Applies objects; fails with kubectl's words. */
export async function apply(cluster: Cluster, ...objects: object[]): Promise<void> {
  const documents = objects.map(object => stringify(object)).join('---\n')
  await checked(cluster, ['apply', '-f', '-'], documents)
}

export async function checked(cluster: Cluster, args: readonly string[], stdin?: string): Promise<string> {
  const { stdout, stderr, code } = await cluster.kubectl(args, stdin)
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr.trim()}`)
  return stdout
}

export const exec = (
  cluster: Cluster,
  namespace: string,
  pod: string,
  container: string,
  ...command: string[]
): Promise<Output> =>
  cluster.kubectl(['exec', `--namespace=${namespace}`, pod, `--container=${container}`, '--', ...command])

export const logs = (cluster: Cluster, namespace: string, pod: string, container: string): Promise<string> =>
  checked(cluster, ['logs', `--namespace=${namespace}`, pod, `--container=${container}`])

/** Waits for `condition` (`Ready`, `Initialized`); a failure shows what became of the pod. */
export async function waitForPod(
  cluster: Cluster,
  namespace: string,
  pod: string,
  condition = 'Ready',
  timeoutSeconds = 60,
): Promise<void> {
  const waited = await cluster.kubectl([
    'wait',
    `--namespace=${namespace}`,
    `pod/${pod}`,
    `--for=condition=${condition}`,
    `--timeout=${timeoutSeconds}s`,
  ])
  if (waited.code === 0) return
  const described = await cluster.kubectl(['describe', `--namespace=${namespace}`, `pod/${pod}`])
  throw new Error(`${waited.stderr.trim()}\n${described.stdout.slice(-3000)}`)
}

/** Waits until the node routes the Service to a pod; asks its rules, so that no connection is made. */
export const waitForService = (cluster: Cluster, namespace: string, name: string): Promise<void> =>
  eventually(async () => {
    const { stdout } = await cluster.onNode('nft', 'list', 'table', 'ip', 'kube-proxy')
    return new RegExp(`chain service-\\w+-${namespace}/${name}/[^{]*{[^}]*dnat`).test(stdout)
  }, `Service ${namespace}/${name}`)

/** A namespace for one test, removed in the background afterwards. */
export async function createNamespace(
  cluster: Cluster,
  name: string,
  labels: Record<string, string> = {},
): Promise<AsyncDisposable> {
  await checked(cluster, ['delete', 'namespace', name, '--ignore-not-found', '--wait=true'])
  await apply(cluster, { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } })
  const path = `/api/v1/namespaces/${name}/serviceaccounts/default`
  await eventually(async () => Boolean(await cluster.kube.get(path)), `service account of ${name}`)
  return {
    [Symbol.asyncDispose]: async () => {
      await cluster.kubectl(['delete', 'namespace', name, '--ignore-not-found', '--wait=false'])
    },
  }
}

export type Resource = KubernetesObject & { readonly spec?: object }

/** Neither headless nor an alias: the node has a rule for it. */
const isRouted = ({ spec = {} }: Resource): boolean => !('clusterIP' in spec || 'externalName' in spec)

/**
 * A namespace for one test file with these objects in it, applied in their order. Its pods are ready then, and its Services
 * lead to one.
 */
export async function populate(
  test: { teardown(after: () => unknown): unknown },
  cluster: Cluster,
  name: string,
  objects: readonly Resource[],
  labels: Record<string, string> = {},
): Promise<void> {
  const namespace = await createNamespace(cluster, name, labels)
  test.teardown(() => namespace[Symbol.asyncDispose]())
  await apply(cluster, ...objects)
  const namesOf = (kind: string) =>
    objects
      .filter(object => object.kind === kind && isRouted(object))
      .map(({ metadata }) => metadata?.name ?? '')
  await Promise.all([
    ...namesOf('Pod').map(pod => waitForPod(cluster, name, pod)),
    ...namesOf('Deployment').map(deployment => rolledOut(cluster, name, deployment)),
  ])
  await Promise.all(namesOf('Service').map(service => waitForService(cluster, name, service)))
}

const rolledOut = (cluster: Cluster, namespace: string, name: string): Promise<string> =>
  checked(cluster, ['rollout', 'status', `--namespace=${namespace}`, `deployment/${name}`, '--timeout=90s'])

/** Asks until the answer is true. */
export async function eventually(
  test: () => Promise<boolean>,
  what: string,
  timeoutMs = 30_000,
  everyMs = 100,
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  let last: unknown
  while (performance.now() < deadline) {
    try {
      if (await test()) return
      last = undefined
    } catch (thrown) {
      last = thrown
    }
    await delay(everyMs)
  }
  throw new Error(`${what}: not within ${timeoutMs} ms`, { cause: last })
}

export type AppOptions = {
  readonly serviceAccount?: string
  readonly annotations?: Record<string, string>
  readonly labels?: Record<string, string>
  /** Merged into the container. */
  readonly container?: object
  /** Merged into the pod's spec. */
  readonly spec?: object
}

/** A pod whose container `app` runs a program of apps/, or sleeps when none is named. */
export function appPod(
  namespace: string,
  name: string,
  program: string | undefined,
  { serviceAccount = 'default', annotations = {}, labels = {}, container = {}, spec = {} }: AppOptions = {},
): V1Pod & { readonly spec: V1PodSpec } {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels: { app: name, ...labels }, annotations },
    spec: {
      serviceAccountName: serviceAccount,
      terminationGracePeriodSeconds: 5,
      containers: [appContainer('app', program, container)],
      ...spec,
    },
  }
}

/** A container that runs a program of apps/, or sleeps. */
export const appContainer = (name: string, program?: string, more: object = {}): V1Container => ({
  name,
  image: APPS_IMAGE,
  imagePullPolicy: 'Never',
  command: program ? ['node', `/apps/${program}.ts`] : ['sleep', '1000000'],
  ...more,
})

/** For `AppOptions`. */
export const INJECTED = { annotations: { [INJECT_KEY]: 'enabled' } }

export const serviceAccount = (namespace: string, name: string): Resource => ({
  apiVersion: 'v1',
  kind: 'ServiceAccount',
  metadata: { name, namespace },
})

/** A Service named and selecting like the pod `name`. */
export const appService = (namespace: string, name: string, port: number, spec: object = {}): Resource => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace },
  spec: { selector: { app: name }, ports: [{ port }], ...spec },
})

// Postern in the cluster: installed with `kubectl apply -k` of deploy/, or of an overlay of it with another
// configuration. One installation serves all test files; installing what is installed already takes a second.
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { V1ConfigMap, V1Lease, V1Pod, V1PodList } from '@kubernetes/client-node'
import { stringify } from 'yaml'
import type { Settings } from '../../injector/config.ts'
import { INJECTOR_NAME, LEADER_LEASE, POLICY_LABEL, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { projectRoot } from '../support/source-files.ts'
import type { Cluster } from './cluster.ts'
import { appPod, checked, eventually } from './pods.ts'

export const DEPLOY = join(projectRoot, 'deploy')

/** Installs, or changes the configuration of what is installed, and waits until all of it is in force. */
export async function installPostern(cluster: Cluster, settings: Partial<Settings> = {}): Promise<void> {
  await using overlay = await makeOverlay(cluster, settings)
  await checked(cluster, ['apply', '-k', overlay.path])
  await waitForPostern(cluster)
}

export async function uninstallPostern(cluster: Cluster): Promise<void> {
  await checked(cluster, ['delete', '-k', DEPLOY, '--ignore-not-found', '--wait=true', '--timeout=90s'])
}

/** Until both replicas are ready, those of before are gone, one leads, and the API server enforces all of it. */
export async function waitForPostern(cluster: Cluster): Promise<void> {
  const inSystem = `--namespace=${SYSTEM_NAMESPACE}`
  await checked(cluster, ['rollout', 'status', inSystem, `deployment/${INJECTOR_NAME}`, '--timeout=90s'])
  await eventually(async () => (await injectorPods(cluster)).length === 2, 'only the new replicas', 60_000)
  await eventually(async () => Boolean(await leaderOf(cluster)), 'a leader among them')
  await eventually(() => injects(cluster), 'opted-in pods are given a sidecar')
  await eventually(() => refusesMisspelt(cluster), 'misspelt opt-ins are refused')
}

/** Names of the injector's pods, those that are ending included. */
export async function injectorPods({ kube }: Cluster): Promise<string[]> {
  const selector = encodeURIComponent(`app.kubernetes.io/name=${INJECTOR_NAME}`)
  const path = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/pods?labelSelector=${selector}`
  const { items } = await kube.get<V1PodList>(path)
  return items.map(({ metadata }) => metadata?.name ?? '')
}

/** The replica that leads, if it is one that is there. */
export async function leaderOf(cluster: Cluster): Promise<string | undefined> {
  const path = `/apis/coordination.k8s.io/v1/namespaces/${SYSTEM_NAMESPACE}/leases/${LEADER_LEASE}`
  const lease = await cluster.kube.get<V1Lease>(path)
  const [holder = ''] = (lease.spec?.holderIdentity ?? '').split('_')
  return (await injectorPods(cluster)).find(name => name === holder)
}

/** Ends every replica, as if the Deployment had been deleted; undone when it is disposed of. */
export async function withoutInjector(cluster: Cluster): Promise<AsyncDisposable> {
  await scale(cluster, 0)
  await eventually(async () => (await injectorPods(cluster)).length === 0, 'no injector is left', 60_000)
  return {
    [Symbol.asyncDispose]: async () => {
      await scale(cluster, 2)
      await waitForPostern(cluster)
    },
  }
}

const scale = (cluster: Cluster, replicas: number): Promise<string> =>
  checked(cluster, [
    'scale',
    `--namespace=${SYSTEM_NAMESPACE}`,
    `deployment/${INJECTOR_NAME}`,
    `--replicas=${replicas}`,
  ])

async function makeOverlay(
  { images }: Cluster,
  settings: Partial<Settings>,
): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'postern-overlay-'))
  const name = INJECTOR_NAME
  // The name of the image does not change with its content: this makes the Deployment roll out.
  const annotations = { image: images.find(image => image.startsWith(name)) }
  const kustomization = {
    resources: ['deploy'],
    configMapGenerator: [
      { name: 'postern-config', namespace: SYSTEM_NAMESPACE, behavior: 'replace', files: ['config.yaml'] },
    ],
    patches: [
      {
        patch: stringify({
          apiVersion: 'apps/v1',
          kind: 'Deployment',
          metadata: { name, namespace: SYSTEM_NAMESPACE },
          spec: { template: { metadata: { annotations } } },
        }),
      },
    ],
  }
  await cp(DEPLOY, join(path, 'deploy'), { recursive: true })
  await writeFile(join(path, 'config.yaml'), stringify(settings))
  await writeFile(join(path, 'kustomization.yaml'), stringify(kustomization))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

const dryRun = (cluster: Cluster, annotations: Record<string, string>) =>
  cluster.kube.create<V1Pod>(
    '/api/v1/namespaces/default/pods?dryRun=All',
    appPod('default', 'probe', undefined, { annotations }),
  )

async function injects(cluster: Cluster): Promise<boolean> {
  const { spec } = await dryRun(cluster, { 'postern.dev/inject': 'enabled' })
  return spec?.initContainers?.length === 2
}

const refusesMisspelt = (cluster: Cluster): Promise<boolean> =>
  dryRun(cluster, { 'postern.dev/injekt': 'enabled' }).then(
    () => false,
    () => true,
  )

/** A ConfigMap of policy documents, for `apply`. */
export const policies = (namespace: string, name: string, ...documents: object[]): V1ConfigMap => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace, labels: { [POLICY_LABEL]: 'true' } },
  data: { 'policy.yaml': documents.map(document => stringify(document)).join('---\n') },
})

export const allowFrom = (name: string, app: string, ...serviceAccounts: string[]): object => ({
  apiVersion: 'policy.postern.dev/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name },
  spec: {
    selector: { matchLabels: { app } },
    action: 'ALLOW',
    rules: [{ from: [{ source: { serviceAccounts } }] }],
  },
})

export const strict = (app: string): object => ({
  apiVersion: 'policy.postern.dev/v1',
  kind: 'PeerAuthentication',
  metadata: { name: `strict-${app}` },
  spec: { selector: { matchLabels: { app } }, mtls: { mode: 'STRICT' } },
})

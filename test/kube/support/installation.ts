// `kubectl apply -k deploy/` on a real API server, for tests of what was installed. No injector runs.
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isKubeError, type Kube, KubeError } from '../../../shared/kube/rest.ts'
import { SYSTEM_NAMESPACE } from '../../../shared/names.ts'
import type { ApiServer } from '../../support/api-server.ts'

export const DEPLOY = fileURLToPath(new URL('../../../deploy', import.meta.url))

export async function applyManifests({ kubectl }: ApiServer): Promise<string> {
  const { code, stdout, stderr } = await kubectl(['apply', '-k', DEPLOY])
  // A warning is somebody's later error.
  if (code !== 0 || stderr !== '') throw new Error(`kubectl apply -k: ${stderr || stdout}`)
  return stdout
}

/** Installs, and waits until the admission policies are in force: the API server loads them within seconds. */
export async function install(server: ApiServer): Promise<void> {
  await applyManifests(server)
  const bad = {
    metadata: { name: 'probe', labels: { 'postern.dev/policy': 'no', 'postern.dev/mode': 'no' } },
  }
  const probes = [
    () => server.kube.create('/api/v1/namespaces?dryRun=All', bad),
    () => server.kube.create(`/api/v1/namespaces/default/configmaps?dryRun=All`, bad),
  ]
  for (const probe of probes) await untilRefused(probe)
}

export const untilRefused = (attempt: () => Promise<unknown>) =>
  until(async () => (await outcome(attempt)) !== 'allowed')

export const untilAllowed = (attempt: () => Promise<unknown>) =>
  until(async () => (await outcome(attempt)) === 'allowed')

export async function until(done: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 150; tries += 1) {
    if (await done()) return
    await delay(200)
  }
  throw new Error('the API server did not come to the expected answer within 30 s')
}

/** `allowed`, or the API server's message where it refuses (401, 403, 422). Anything else is thrown. */
export async function outcome(attempt: () => Promise<unknown>): Promise<string> {
  try {
    await attempt()
    return 'allowed'
  } catch (thrown) {
    if (thrown instanceof KubeError && [401, 403, 422].includes(thrown.status)) return thrown.message
    throw thrown
  }
}

export async function createNamespace(kube: Kube, name: string, labels: Record<string, string> = {}) {
  await kube.create('/api/v1/namespaces', { metadata: { name, labels } })
  await createServiceAccount(kube, name, 'default')
}

/** Unless the controller manager was faster, as with `default`. */
export async function createServiceAccount(kube: Kube, namespace: string, name: string): Promise<void> {
  try {
    await kube.create(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } })
  } catch (thrown) {
    if (!isKubeError(thrown, 409)) throw thrown
  }
}

/** A pod that no node will ever run. Returns its uid. */
export async function createPod(
  kube: Kube,
  namespace: string,
  name: string,
  account: string,
): Promise<string> {
  const pod = await kube.create<{ metadata: { name: string; uid?: string }; spec: object }>(
    `/api/v1/namespaces/${namespace}/pods`,
    {
      metadata: { name },
      spec: { serviceAccountName: account, containers: [{ name: 'app', image: 'none' }] },
    },
  )
  return pod.metadata.uid ?? ''
}

export const systemPath = (resource: string): string => `/api/v1/namespaces/${SYSTEM_NAMESPACE}/${resource}`

// Lets the service accounts of a namespace request certificates, and only where the namespace holds pods with sidecars:
// one ClusterRoleBinding each. Webhooks create them at admission; the leader removes those that nobody needs any more.
import type { V1ClusterRoleBinding } from '@kubernetes/client-node'
import type { Clock } from '../shared/clock.ts'
import { PosternError } from '../shared/errors.ts'
import { isKubeError, type Kube } from '../shared/kube/rest.ts'
import { failure, type Logger } from '../shared/log.ts'
import { WORKLOAD_ROLE } from '../shared/names.ts'
import type { World } from './directory/world.ts'

const PATH = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings'
const LABEL = { 'app.kubernetes.io/managed-by': 'postern-injector' }
const PREFIX = `${WORKLOAD_ROLE}:`

const bindingName = (namespace: string): string => `${PREFIX}${namespace}`

export function bindingFor(namespace: string): V1ClusterRoleBinding {
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name: bindingName(namespace), labels: LABEL },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: WORKLOAD_ROLE },
    subjects: [
      { apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: `system:serviceaccounts:${namespace}` },
    ],
  }
}

/** Since when, by the monotonic clock, a namespace with a binding has had no pod with a sidecar. */
export type Idle = ReadonlyMap<string, number>

export type BindingPlan = {
  readonly create: readonly string[]
  readonly remove: readonly string[]
  readonly idle: Idle
}

/** A namespace keeps its binding for a while after its last pod: a Job that runs each minute does not cost two writes each. */
export function planBindings(
  needed: ReadonlySet<string>,
  bound: ReadonlySet<string>,
  idle: Idle,
  nowMs: number,
  graceMs: number,
): BindingPlan {
  const unused = [...bound].filter(namespace => !needed.has(namespace))
  const since = new Map(unused.map(namespace => [namespace, idle.get(namespace) ?? nowMs]))
  const remove = unused.filter(namespace => nowMs - (since.get(namespace) ?? nowMs) >= graceMs)
  for (const namespace of remove) since.delete(namespace)
  return { create: [...needed].filter(namespace => !bound.has(namespace)), remove, idle: since }
}

/** Namespaces with a pod whose sidecar asks the API server for certificates, and may still. */
export function namespacesInMesh({ pods }: World): Set<string> {
  const found = new Set<string>()
  for (const { mesh, live, elsewhere, namespace } of pods.values())
    if (mesh && live && !elsewhere) found.add(namespace)
  return found
}

const GRACE_MS = 10 * 60_000
const RECONCILE_MS = 60_000
/** The leader may have removed it since: what was seen long ago is made sure of again. */
const REMEMBERED_MS = GRACE_MS / 2

export type Bindings = {
  /**
   * Resolves when the namespace has its binding.
   * @throws PosternError PSTN_ADMISSION_MALFORMED if there is no such namespace: whoever reaches the webhook's port may name any.
   */
  ensure(namespace: string, signal: AbortSignal): Promise<void>
  /** Keeps bindings and namespaces with sidecars in step until aborted. Only the leader runs it. */
  reconcile(world: World, signal: AbortSignal): Promise<void>
}

export type BindingsContext = { readonly kube: Kube; readonly clock: Clock; readonly log: Logger }

export function createBindings({ kube, clock, log }: BindingsContext): Bindings {
  const ensuredAt = new Map<string, number>()

  const ensure = async (namespace: string, signal: AbortSignal) => {
    const last = ensuredAt.get(namespace)
    if (last !== undefined && clock.monotonic() - last < REMEMBERED_MS) return
    await expectNamespace(namespace, signal)
    await bind(namespace, signal)
  }

  const expectNamespace = async (namespace: string, signal: AbortSignal) => {
    try {
      await kube.get(`/api/v1/namespaces/${namespace}`, signal)
    } catch (thrown) {
      if (!isKubeError(thrown, 404)) throw thrown
      throw new PosternError('PSTN_ADMISSION_MALFORMED', `there is no namespace ${namespace}`)
    }
  }

  const bind = async (namespace: string, signal: AbortSignal) => {
    try {
      await kube.create(PATH, bindingFor(namespace), signal)
      log.info({ namespace }, 'namespace may request certificates')
    } catch (thrown) {
      if (!isKubeError(thrown, 409)) throw thrown
    }
    ensuredAt.set(namespace, clock.monotonic())
  }

  const remove = async (namespace: string, signal: AbortSignal) => {
    ensuredAt.delete(namespace)
    await kube.delete(`${PATH}/${encodeURIComponent(bindingName(namespace))}`, undefined, signal)
    log.info({ namespace }, 'namespace may not request certificates any more')
  }

  const bound = async (signal: AbortSignal): Promise<Set<string>> => {
    const [[key, value] = []] = Object.entries(LABEL)
    const selector = new URLSearchParams({ labelSelector: `${key}=${value}` })
    const { items } = await kube.get<{ items: V1ClusterRoleBinding[] }>(`${PATH}?${selector}`, signal)
    const names = items.map(({ metadata }) => metadata?.name ?? '').filter(name => name.startsWith(PREFIX))
    return new Set(names.map(name => name.slice(PREFIX.length)))
  }

  const reconcile = async (world: World, signal: AbortSignal) => {
    let idle: Idle = new Map()
    while (!signal.aborted) {
      try {
        const plan = planBindings(
          namespacesInMesh(world),
          await bound(signal),
          idle,
          clock.monotonic(),
          GRACE_MS,
        )
        idle = plan.idle
        for (const namespace of plan.create) {
          await bind(namespace, signal)
        }
        for (const namespace of plan.remove) await remove(namespace, signal)
      } catch (thrown) {
        if (!signal.aborted) log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'bindings not reconciled')
      }
      await clock.sleep(RECONCILE_MS, signal).catch(() => undefined)
    }
  }
  return { ensure, reconcile }
}

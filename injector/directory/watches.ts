// Everything that the world is made of, watched once by each replica, whoever leads.
import type { V1ObjectMeta } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import type { Logger } from '../../shared/log.ts'
import { POLICY_LABEL } from '../../shared/names.ts'
import { watchList } from '../kube/watch.ts'
import type { Directory } from './directory.ts'
import type { Objects, Resource } from './reduce.ts'

type Source = {
  readonly path: string
  readonly query?: Record<string, string>
  /** An API that older clusters do not have. */
  readonly optional?: boolean
}

const SOURCES: { readonly [R in Resource]: Source } = {
  // First, so that pods find the prefixes that own their addresses.
  nodes: { path: '/api/v1/nodes' },
  servicecidrs: { path: '/apis/networking.k8s.io/v1/servicecidrs', optional: true },
  namespaces: { path: '/api/v1/namespaces' },
  configmaps: { path: '/api/v1/configmaps', query: { labelSelector: `${POLICY_LABEL}=true` } },
  pods: { path: '/api/v1/pods' },
  services: { path: '/api/v1/services' },
  endpointslices: { path: '/apis/discovery.k8s.io/v1/endpointslices' },
}

export type WatchContext = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
}

export type Watches = {
  /** Once every resource has been listed: before that, nothing may be said to be unknown. */
  readonly synced: Promise<void>
  /** When all watches have ended, after the signal. */
  readonly ended: Promise<void>
}

export function watchWorld(directory: Directory, context: WatchContext): Watches {
  const sources = Object.keys(SOURCES).filter(isResource)
  const watches = sources.map(resource => watchResource(directory, resource, context))
  return {
    synced: Promise.all(watches.map(({ listed }) => listed)).then(() => undefined),
    ended: Promise.all(watches.map(({ ended }) => ended)).then(() => undefined),
  }
}

const isResource = (name: string): name is Resource => Object.hasOwn(SOURCES, name)

function watchResource<R extends Resource>(directory: Directory, resource: R, context: WatchContext) {
  type Item = Objects[R] & { metadata?: V1ObjectMeta }
  const { path, query = {}, optional = false } = SOURCES[resource]
  const { promise: listed, resolve } = Promise.withResolvers<void>()
  const handlers = {
    onList: (items: Item[]) => {
      directory.feed({ kind: 'list', resource, items })
      resolve()
    },
    onEvent: (type: string, object: Item) =>
      directory.feed({ kind: type === 'DELETED' ? 'gone' : 'set', resource, object }),
  }
  const run = async () => {
    if (optional && !(await isServed(path, context))) return resolve()
    await watchList<Item>(context.kube, path, query, handlers, context)
  }
  return { listed, ended: run() }
}

/** Any other failure is for the watch to retry. */
async function isServed(path: string, { kube, log, signal }: WatchContext): Promise<boolean> {
  try {
    await kube.get(`${path}?limit=1`, signal)
  } catch (thrown) {
    if (!isKubeError(thrown, 404)) return true
    log.info({ path }, 'this API server does not have it; `prefixes` of the configuration stands in')
    return false
  }
  return true
}

// The embedded cluster's memory: objects by resource and name, one resourceVersion for all, and a bounded history from
// which watches are served. Optimistic concurrency and watch order are as in etcd; everything else is left out.
import { randomUUID } from 'node:crypto'

export type KubeObject = {
  apiVersion?: string
  kind?: string
  metadata: {
    name?: string
    generateName?: string
    namespace?: string
    uid?: string
    resourceVersion?: string
    creationTimestamp?: string
    labels?: Record<string, string>
    annotations?: Record<string, string>
    [other: string]: unknown
  }
  [field: string]: unknown
}

export type Change = {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly resource: string
  readonly version: number
  readonly object: KubeObject
}

/** A refusal in the API server's terms; server.ts makes a Status object of it. */
export class Refusal extends Error {
  readonly code: number
  readonly reason: string

  constructor(code: number, reason: string, message: string) {
    super(message)
    this.code = code
    this.reason = reason
  }

  /** The object that the API server answers with. */
  status() {
    const { code, reason, message } = this
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', code, reason, message }
  }
}

export type Store = {
  version(): number
  list(resource: string): KubeObject[]
  get(resource: string, namespace: string | undefined, name: string): KubeObject
  create(resource: string, object: KubeObject): KubeObject
  /** Replaces the object; a resourceVersion that is not the present one is a 409. */
  replace(resource: string, object: KubeObject): KubeObject
  delete(resource: string, namespace: string | undefined, name: string): KubeObject
  /** Calls `listener` with each change after `since`, first those already there. Throws 410 when `since` is forgotten. */
  watch(resource: string, since: number, listener: (change: Change) => void): () => void
}

const HISTORY = 2_000

const keyOf = (namespace: string | undefined, name: string) => `${namespace ?? ''}/${name}`

export function createStore(): Store {
  const objects = new Map<string, Map<string, KubeObject>>()
  const history: Change[] = []
  const listeners = new Set<(change: Change) => void>()
  let version = 1

  const of = (resource: string) => objects.getOrInsertComputed(resource, () => new Map<string, KubeObject>())

  const commit = (type: Change['type'], resource: string, object: KubeObject): KubeObject => {
    version += 1
    const stored = structuredClone(object)
    stored.metadata.resourceVersion = String(version)
    const key = keyOf(stored.metadata.namespace, stored.metadata.name ?? '')
    if (type === 'DELETED') of(resource).delete(key)
    else of(resource).set(key, stored)
    const change = { type, resource, version, object: stored }
    history.push(change)
    if (history.length > HISTORY) history.shift()
    for (const listener of [...listeners]) listener(change)
    return structuredClone(stored)
  }

  const find = (resource: string, namespace: string | undefined, name: string): KubeObject => {
    const found = of(resource).get(keyOf(namespace, name))
    if (!found) throw new Refusal(404, 'NotFound', `${resource} "${name}" not found`)
    return found
  }

  return {
    version: () => version,
    list: resource => [...of(resource).values()].map(object => structuredClone(object)),
    get: (resource, namespace, name) => structuredClone(find(resource, namespace, name)),
    create: (resource, object) => {
      const name =
        object.metadata.name ?? `${object.metadata.generateName ?? 'x-'}${randomUUID().slice(0, 5)}`
      if (of(resource).has(keyOf(object.metadata.namespace, name)))
        throw new Refusal(409, 'AlreadyExists', `${resource} "${name}" already exists`)
      const metadata = {
        ...object.metadata,
        name,
        uid: randomUUID(),
        creationTimestamp: new Date().toISOString(),
      }
      return commit('ADDED', resource, { ...object, metadata })
    },
    replace: (resource, object) => {
      const { namespace, name = '', resourceVersion } = object.metadata
      const present = find(resource, namespace, name)
      if (resourceVersion && resourceVersion !== present.metadata.resourceVersion)
        throw new Refusal(
          409,
          'Conflict',
          `${resource} "${name}": the object has been modified; apply your changes to the latest version`,
        )
      const { uid, creationTimestamp } = present.metadata
      const metadata = {
        ...object.metadata,
        ...(uid && { uid }),
        ...(creationTimestamp && { creationTimestamp }),
      }
      return commit('MODIFIED', resource, { ...object, metadata })
    },
    delete: (resource, namespace, name) => commit('DELETED', resource, find(resource, namespace, name)),
    watch: (resource, since, listener) => {
      const oldest = history[0]?.version ?? version + 1
      if (since + 1 < oldest && since < version)
        throw new Refusal(410, 'Expired', `too old resource version: ${since} (${oldest})`)
      for (const change of history)
        if (change.resource === resource && change.version > since) listener(change)
      const matching = (change: Change) => {
        if (change.resource === resource) listener(change)
      }
      listeners.add(matching)
      return () => listeners.delete(matching)
    },
  }
}

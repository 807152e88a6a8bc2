// List and watch one collection for as long as the process lives. Whoever uses it sees one full list, then events, and
// after any trouble a full list again: nothing is ever missed, at worst late. Half-dead connections are noticed here:
// TCP keep-alive for lost peers, a deadline past the watch's own timeout for servers that go silent.
// Sources: Kubernetes API concepts, "Efficient detection of changes"; docs/adr/0002-kubernetes-client.md.
import type { V1ObjectMeta, V1Status } from '@kubernetes/client-node'
import { backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { withDeadline } from '../../shared/deadline.ts'
import { isKubeError, type Kube, KubeError, TooLarge } from '../../shared/kube/rest.ts'
import { lines } from '../../shared/lines.ts'
import { failure, type Logger } from '../../shared/log.ts'

type Item = { metadata?: V1ObjectMeta }
export type WatchEventType = 'ADDED' | 'MODIFIED' | 'DELETED'

export type WatchHandlers<T> = {
  /** The whole collection; replaces everything known before. */
  onList(items: T[]): void
  onEvent(type: WatchEventType, object: T): void
}

export type WatchOptions = {
  readonly signal: AbortSignal
  readonly log: Logger
  readonly clock: Clock
  readonly random?: () => number
  /** How long the server holds one watch; the next goes on where it ended. Default 240 to 300. */
  readonly timeoutSeconds?: number
}

const PAGE = 500
/** What etcd holds (1.5 MiB) when JSON escapes every byte of it: anybody may write such an object. */
const MAX_LINE_BYTES = 16 * 1024 * 1024
const RETRY = { baseMs: 200, capMs: 15_000 }
const SLACK_MS = 10_000
const SILENT = 'the watch went silent: neither events nor an end within its timeout'
const FUTURE =
  'not even a bookmark came through the watch: the server may be behind it, as when etcd was put back to an older state'
const KEEP_ALIVE_MS = 10_000
/** A watch that ends sooner than this was not held: going on at once would be a storm of requests. */
const HELD_MS = 1_000

/** Runs until the signal aborts, then resolves. Never throws for what the server or the network does. */
export async function watchList<T extends Item>(
  kube: Kube,
  path: string,
  query: Record<string, string>,
  handlers: WatchHandlers<T>,
  options: WatchOptions,
): Promise<void> {
  const { signal, log, clock, random = Math.random } = options
  let failures = 0
  while (!signal.aborted) {
    try {
      const { items, resourceVersion } = await listAll<T>(kube, path, query, signal)
      handlers.onList(items)
      await follow(kube, path, query, resourceVersion, handlers, {
        ...options,
        onHeld: () => {
          failures = 0
        },
      })
    } catch (thrown) {
      if (signal.aborted) return
      const expired = isKubeError(thrown, 410)
      const report = { path, ...failure(thrown, 'PSTN_API_UNAVAILABLE') }
      if (expired) log.debug(report, 'watch expired: listing anew')
      else log.warn(report, 'watch failed: listing anew')
      const wait = backoffMs(RETRY, failures, random())
      failures += 1
      await clock.sleep(wait, signal).catch(() => undefined)
    }
  }
}

async function listAll<T extends Item>(
  kube: Kube,
  path: string,
  query: Record<string, string>,
  signal: AbortSignal,
): Promise<{ items: T[]; resourceVersion: string }> {
  type List = { metadata?: { continue?: string; resourceVersion?: string }; items?: T[] | null }
  const items: T[] = []
  let limit = PAGE
  let next = ''
  while (true) {
    const search = new URLSearchParams({ ...query, limit: String(limit), ...(next && { continue: next }) })
    try {
      const { items: page, metadata = {} } = await kube.get<List>(`${path}?${search}`, signal)
      for (const item of page ?? []) {
        // Nobody reads them, and they are most of a list: of 10,000 pods 190 of 290 MB.
        delete item.metadata?.managedFields
        items.push(item)
      }
      next = metadata.continue ?? ''
      if (next === '') return { items, resourceVersion: metadata.resourceVersion ?? '' }
      limit = Math.min(2 * limit, PAGE)
    } catch (thrown) {
      if (!(thrown instanceof TooLarge) || limit === 1) throw thrown
      limit = Math.ceil(limit / 8)
    }
  }
}

/** Watches from one list on. It never returns: it throws when a new list is needed. */
async function follow<T extends Item>(
  kube: Kube,
  path: string,
  query: Record<string, string>,
  from: string,
  handlers: WatchHandlers<T>,
  options: WatchOptions & { onHeld: () => void },
): Promise<never> {
  const { clock, random = Math.random } = options
  let resourceVersion = from
  while (true) {
    const timeoutSeconds = options.timeoutSeconds ?? 240 + Math.floor(random() * 60)
    const search = new URLSearchParams({
      ...query,
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion,
      timeoutSeconds: String(timeoutSeconds),
    })
    const opened = clock.monotonic()
    let heard = false
    const held = () => clock.monotonic() - opened >= HELD_MS
    try {
      const ms = timeoutSeconds * 1_000 + SLACK_MS
      await withDeadline({ clock, ms, signal: options.signal, late: SILENT }, async signal => {
        const response = await kube.stream(`${path}?${search}`, signal)
        response.socket.setKeepAlive(true, KEEP_ALIVE_MS)
        for await (const line of lines(response, MAX_LINE_BYTES)) {
          resourceVersion = apply(line, handlers) ?? resourceVersion
          heard = true
        }
      })
    } finally {
      if (held()) options.onHeld()
    }
    if (!held()) throw new Error('the server ended the watch at once')
    // A server answers a version that it has not reached with silence, until it has reached it.
    if (!heard) throw new Error(FUTURE)
  }
}

/** Hands one event to its handler; returns the version to go on from. */
function apply<T extends Item>(line: string, handlers: WatchHandlers<T>): string | undefined {
  const { type, object } = JSON.parse(line) as { type: string; object: T }
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      handlers.onEvent(type, object)
      break
    case 'BOOKMARK':
      break
    default: {
      const status = object as V1Status
      throw new KubeError(status.code ?? 500, status.reason ?? type, status.message ?? `watch event ${type}`)
    }
  }
  return object.metadata?.resourceVersion
}

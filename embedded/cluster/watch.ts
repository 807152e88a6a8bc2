// Watches and selectors of the embedded cluster: newline-delimited events from a resourceVersion on, with bookmarks.
import type { ServerResponse } from 'node:http'
import { apiVersion, type Target } from './resources.ts'
import { type Change, type KubeObject, Refusal, type Store } from './store.ts'

const BOOKMARK_MS = 2_000

export function serveWatch(
  store: Store,
  target: Target,
  query: URLSearchParams,
  response: ServerResponse,
): void {
  const { plural, kind } = target.resource
  const since = Number(query.get('resourceVersion') ?? store.version())
  const send = (type: string, object: unknown) => response.write(`${JSON.stringify({ type, object })}\n`)
  const typed = (object: object) => ({ kind, apiVersion: apiVersion(target.resource), ...object })
  const onChange = ({ type, object }: Change) => {
    if (selects(target, query, object)) send(type, typed(object))
  }
  response.writeHead(200, { 'content-type': 'application/json' })
  response.flushHeaders()
  try {
    const stop = store.watch(plural, since, onChange)
    const bookmark = () => send('BOOKMARK', typed({ metadata: { resourceVersion: String(store.version()) } }))
    const bookmarks = setInterval(bookmark, BOOKMARK_MS)
    const timeout = setTimeout(() => response.end(), Number(query.get('timeoutSeconds') ?? 3_600) * 1_000)
    response.on('close', () => {
      stop()
      clearInterval(bookmarks)
      clearTimeout(timeout)
    })
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    send('ERROR', error.status())
    response.end()
  }
}

/** Whether the object is in the request's namespace and passes its label and field selectors (equality only). */
export function selects(target: Target, query: URLSearchParams, object: KubeObject): boolean {
  if (target.namespace && object.metadata.namespace !== target.namespace) return false
  const labels = object.metadata.labels ?? {}
  return (
    terms(query.get('labelSelector')).every(([key, value]) =>
      value === undefined ? key in labels : labels[key] === value,
    ) && terms(query.get('fieldSelector')).every(([path, value]) => field(object, path) === value)
  )
}

const terms = (selector: string | null): [string, string | undefined][] =>
  (selector ?? '')
    .split(',')
    .filter(term => term !== '')
    .map(term => {
      const [key = '', value] = term.split(/==?/)
      return [key, value]
    })

function field(object: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], object)
}

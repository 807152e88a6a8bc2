// The way to what an injector answers on loopback: a port-forward that the caller has, or one of our own to a replica that
// is ready. Kubernetes decides who may: `create` on pods/portforward in the injector's namespace.
import { once } from 'node:events'
import { type IncomingMessage, type RequestOptions, request } from 'node:http'
import type { V1Pod, V1PodList } from '@kubernetes/client-node'
import { asPosternError, PosternError } from '../shared/errors.ts'
import type { Kube } from '../shared/kube/rest.ts'
import { INJECTOR_NAME, SYSTEM_NAMESPACE } from '../shared/names.ts'
import { ADMIN_PORT } from '../shared/ports.ts'
import { type CommandContext, type Option, UsageError } from './command.ts'
import { forwardPort } from './port-forward.ts'

export const INJECTOR_OPTION: Option = {
  type: 'string',
  help: `ask there, for example http://127.0.0.1:${ADMIN_PORT} of your own kubectl port-forward`,
}

const MAX_BYTES = 256 * 1024 * 1024
const PATIENCE_MS = 15_000

/** How the caller reaches an injector: `ask` gives what it answers to a path. */
export type InjectorClient = { ask(path: string): Promise<unknown> }

/** @throws UsageError, PosternError PSTN_API_UNAVAILABLE if no replica is ready or may be reached. */
export async function connectInjector({
  options,
  cluster,
  kube,
  signal,
}: CommandContext): Promise<InjectorClient> {
  const within = () => AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)])
  if (typeof options.injector === 'string') {
    const url = forwarded(options.injector)
    return { ask: path => get(new URL(path, url), { agent: false }, within()) }
  }
  const target = {
    namespace: SYSTEM_NAMESPACE,
    pod: await readyReplica(await kube(), signal),
    port: ADMIN_PORT,
  }
  return {
    ask: async path => {
      const soon = within()
      const connection = await forwardPort(cluster, target, soon)
      try {
        return await get(new URL(path, 'http://localhost'), { createConnection: () => connection }, soon)
      } finally {
        connection.destroy()
      }
    },
  }
}

function forwarded(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' && url.pathname === '/') return url
  throw new UsageError(`--injector must be like http://127.0.0.1:${ADMIN_PORT}`)
}

async function readyReplica(kube: Kube, signal: AbortSignal): Promise<string> {
  const selector = encodeURIComponent(`app.kubernetes.io/name=${INJECTOR_NAME}`)
  const path = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/pods?labelSelector=${selector}`
  const { items } = await kube.get<V1PodList>(path, signal)
  const name = items.find(isReady)?.metadata?.name
  if (name !== undefined) return name
  const found = items.length === 0 ? 'there is no injector' : `none of ${items.length} injectors is ready`
  throw new PosternError('PSTN_API_UNAVAILABLE', `${found} in ${SYSTEM_NAMESPACE}`)
}

const isReady = ({ metadata, status }: V1Pod): boolean =>
  metadata?.deletionTimestamp === undefined &&
  (status?.conditions ?? []).some(({ type, status: is }) => type === 'Ready' && is === 'True')

async function get(url: URL, options: RequestOptions, signal: AbortSignal): Promise<unknown> {
  try {
    const call = request(url, { ...options, signal }).end()
    const [response] = (await once(call, 'response')) as [IncomingMessage]
    const text = await read(response)
    if (response.statusCode === 200) return JSON.parse(text)
    throw new PosternError('PSTN_API_UNAVAILABLE', `it answered ${response.statusCode}: ${text.trim()}`)
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_API_UNAVAILABLE')
    throw new PosternError(code, `the injector: ${url.pathname}: ${message}`, { cause: thrown })
  }
}

async function read(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response) {
    size += chunk.length
    if (size > MAX_BYTES) throw new PosternError('PSTN_LIMIT', `more than ${MAX_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

// The Kubernetes REST API in as few lines as the sidecar can afford: JSON over one keep-alive HTTPS agent, with the
// token and the roots read anew from their files (the kubelet rewrites both). The injector uses the same client;
// watching is injector/kube/.
// Why not @kubernetes/client-node: docs/adr/0002-kubernetes-client.md.
import { readFile } from 'node:fs/promises'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent, request as httpsRequest } from 'node:https'

export type KubeEndpoint = {
  /** `https://host:port`; `http://` only for the embedded cluster. */
  readonly server: string
  /** PEM. The only roots that are trusted for the API server; `caFile` is read at each request. */
  readonly ca?: string
  readonly caFile?: string
  /** One of these authenticates; `tokenFile` is read at each request. */
  readonly tokenFile?: string
  readonly token?: string
  readonly clientCertificate?: { readonly cert: string; readonly key: string }
  /** Silence of the server that ends a call, from the dial on. */
  readonly timeoutMs?: number
  /** Told the `Date` of each answer, whatever its status. */
  readonly onDate?: (date: string) => void
}

/** An answer of 400 and above: `reason` and `message` are the API server's Status fields. */
export class KubeError extends Error {
  readonly status: number
  readonly reason: string

  constructor(status: number, reason: string, message: string) {
    super(message)
    this.name = 'KubeError'
    this.status = status
    this.reason = reason
  }
}

/** More than this client reads at once: a list can be asked for in smaller pages. */
export class TooLarge extends Error {}

export const isKubeError = (thrown: unknown, status: number): boolean =>
  thrown instanceof KubeError && thrown.status === status

export type PatchType =
  | 'application/merge-patch+json'
  | 'application/json-patch+json'
  | 'application/apply-patch+yaml'

/** Paths are absolute with their query, for instance `/api/v1/namespaces/x/pods?limit=1`. All calls throw KubeError or the socket's error. */
export type Kube = Disposable & {
  get<T>(path: string, signal?: AbortSignal): Promise<T>
  create<T>(path: string, body: T, signal?: AbortSignal): Promise<T>
  replace<T>(path: string, body: T, signal?: AbortSignal): Promise<T>
  patch<T>(path: string, type: PatchType, body: unknown, signal?: AbortSignal): Promise<T>
  delete(path: string, body?: unknown, signal?: AbortSignal): Promise<void>
  /** The raw response of a GET, for watches and logs. The caller reads or destroys it. */
  stream(path: string, signal: AbortSignal): Promise<IncomingMessage>
}

const TIMEOUT_MS = 15_000
const MAX_ANSWER_BYTES = 64 * 1024 * 1024

type Call = { method: string; path: string; body?: unknown; type?: string; signal?: AbortSignal | undefined }

export function connectKube(endpoint: KubeEndpoint): Kube {
  const { server, clientCertificate, timeoutMs = TIMEOUT_MS } = endpoint
  const secure = server.startsWith('https:')
  const agent = secure ? new Agent({ keepAlive: true, ...clientCertificate }) : undefined

  const send = async ({
    method,
    path,
    body,
    type = 'application/json',
    signal,
  }: Call): Promise<IncomingMessage> => {
    const token = (await current(endpoint.tokenFile, endpoint.token))?.trim()
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const headers: Record<string, string> = { accept: 'application/json' }
    if (token) headers.authorization = `Bearer ${token}`
    if (payload) Object.assign(headers, { 'content-type': type, 'content-length': String(payload.length) })
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const tls = agent && { agent, ca: await rootsOf(endpoint) }
    // As an option it counts the dial too, which request.setTimeout does not.
    const options = { method, headers, timeout: timeoutMs, ...(signal && { signal }), ...tls }
    const request = (secure ? httpsRequest : httpRequest)(new URL(path, server), options, resolve)
    request.on('timeout', () => request.destroy(new Error(`no answer from ${server} within ${timeoutMs} ms`)))
    request.on('error', reject)
    request.end(payload)
    const response = await promise
    if (response.headers.date !== undefined) endpoint.onDate?.(response.headers.date)
    return response
  }

  const json = async <T>(call: Call): Promise<T> => {
    const response = await send(call)
    const text = await readAll(response)
    if ((response.statusCode ?? 500) >= 400) throw kubeError(response.statusCode ?? 500, text)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }

  return {
    get: (path, signal) => json({ method: 'GET', path, signal }),
    create: (path, body, signal) => json({ method: 'POST', path, body, signal }),
    replace: (path, body, signal) => json({ method: 'PUT', path, body, signal }),
    patch: (path, type, body, signal) => json({ method: 'PATCH', path, body, type, signal }),
    delete: (path, body, signal) => json({ method: 'DELETE', path, body, signal }),
    stream: async (path, signal) => {
      const response = await send({ method: 'GET', path, signal })
      if ((response.statusCode ?? 500) < 400) {
        response.socket.setTimeout(0)
        return response
      }
      throw kubeError(response.statusCode ?? 500, await readAll(response))
    },
    [Symbol.dispose]: () => agent?.destroy(),
  }
}

const current = async (file: string | undefined, fixed: string | undefined): Promise<string | undefined> =>
  file === undefined ? fixed : readFile(file, 'utf8')

/** The agent keeps connections apart by these. An empty list trusts nobody; none at all, the public web. */
async function rootsOf({ caFile, ca }: KubeEndpoint): Promise<string[]> {
  const roots = await current(caFile, ca)
  return roots === undefined ? [] : [roots]
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response) {
    size += chunk.length
    if (size > MAX_ANSWER_BYTES) throw new TooLarge(`answer larger than ${MAX_ANSWER_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function kubeError(status: number, text: string): KubeError {
  try {
    const { reason = '', message = text } = JSON.parse(text) as { reason?: string; message?: string }
    return new KubeError(status, reason, message)
  } catch {
    return new KubeError(status, '', text.slice(0, 500))
  }
}

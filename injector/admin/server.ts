// What operators ask an injector, for `kubectl port-forward` alone: on loopback, so that Kubernetes decides who may
// (pods/portforward in our namespace). Reads only. A page in the operator's browser can reach a forwarded port too, under a
// name that its owner points at loopback (DNS rebinding): any other Host than loopback's is refused.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { normalizeHost } from '../../shared/http/host.ts'
import { failure, type Logger } from '../../shared/log.ts'

/** By path; each gives what is answered as JSON. */
export type AdminAnswers = Readonly<Record<string, (signal: AbortSignal) => Promise<unknown>>>

export type AdminServerOptions = {
  /** 0 takes a free one. */
  readonly port: number
  readonly answers: AdminAnswers
  readonly log: Logger
}

export type AdminServer = AsyncDisposable & { readonly port: number }

const MAX_CONNECTIONS = 32
const SERVER_OPTIONS = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
}

export async function serveAdmin({ port, answers, log }: AdminServerOptions): Promise<AdminServer> {
  const handle = (request: IncomingMessage, response: ServerResponse) => {
    answer(request, response, answers).catch(thrown => {
      log.warn(failure(thrown, 'PSTN_API_UNAVAILABLE'), 'admin request not answered')
      if (!response.headersSent) say(response, 500, 'it failed; the log says why\n')
      else response.destroy()
    })
  }
  await using stack = new AsyncDisposableStack()
  const first = await listen(stack, handle, '127.0.0.1', port)
  await listen(stack, handle, '::1', first).catch(thrown => {
    // A node without IPv6: the other address does.
    if (!['EADDRNOTAVAIL', 'EAFNOSUPPORT'].includes(Object(thrown).code)) throw thrown
  })
  const lifetime = stack.move()
  return { port: first, [Symbol.asyncDispose]: () => lifetime.disposeAsync() }
}

async function listen(
  stack: AsyncDisposableStack,
  handle: (request: IncomingMessage, response: ServerResponse) => void,
  host: string,
  port: number,
): Promise<number> {
  const server = createServer(SERVER_OPTIONS, handle)
  server.maxConnections = MAX_CONNECTIONS
  server.listen({ host, port })
  await once(server, 'listening')
  stack.defer(() => close(server))
  return (server.address() as AddressInfo).port
}

async function close(server: Server): Promise<void> {
  const closed = once(server.close(), 'close')
  server.closeAllConnections()
  await closed
}

const LOOPBACK = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?$/

async function answer(request: IncomingMessage, response: ServerResponse, answers: AdminAnswers) {
  const { method, headers, url = '' } = request
  if (!isLoopback(headers.host)) return say(response, 421, 'only for loopback\n')
  if (method !== 'GET') return say(response, 405, 'only GET\n')
  const [path = ''] = url.split('?')
  const find = Object.hasOwn(answers, path) ? answers[path] : undefined
  if (!find) return say(response, 404, 'not found\n')
  const gone = new AbortController()
  response.once('close', () => gone.abort())
  const found = await find(gone.signal)
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(`${JSON.stringify(found)}\n`)
}

function isLoopback(host: string | undefined): boolean {
  try {
    return LOOPBACK.test(normalizeHost(host ?? ''))
  } catch {
    return false
  }
}

function say(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(text)
}

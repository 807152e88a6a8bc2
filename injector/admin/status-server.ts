// What the kubelet and Prometheus ask: /healthz (the process answers), /readyz (it may be sent work) and /metrics. Any pod
// may dial the port, and none may keep the kubelet out, which would restart the injector.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Live } from '../../shared/live.ts'
import { METRICS_CONTENT_TYPE, type Registry } from '../../shared/metrics.ts'
import { limitCallers } from '../../shared/shares.ts'

export type StatusServerOptions = {
  readonly host: string
  readonly port: number
  readonly registry: Registry
  /** What is still missing, one reason each; empty: ready. */
  readonly missing: Live<readonly string[]>
}

export type StatusServer = AsyncDisposable & { readonly port: number }

const MAX_CONNECTIONS = 256
const MAX_CONNECTIONS_PER_CALLER = 32
const SERVER_OPTIONS = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  keepAliveTimeout: 5_000,
  // How often the timeouts above are looked at: 30 s by default.
  connectionsCheckingInterval: 1_000,
}

const TEXT = 'text/plain; charset=utf-8'

export async function serveStatus({
  host,
  port,
  registry,
  missing,
}: StatusServerOptions): Promise<StatusServer> {
  const answer = (path: string): { status: number; type: string; body: string } => {
    const waiting = missing.get()
    switch (path) {
      case '/healthz':
        return { status: 200, type: TEXT, body: 'ok\n' }
      case '/readyz':
        return waiting.length === 0
          ? { status: 200, type: TEXT, body: 'ok\n' }
          : { status: 503, type: TEXT, body: `waiting for ${waiting.join(', ')}\n` }
      case '/metrics':
        return { status: 200, type: METRICS_CONTENT_TYPE, body: registry.render() }
      default:
        return { status: 404, type: TEXT, body: 'not found\n' }
    }
  }
  const server = createServer(SERVER_OPTIONS, (request, response) => {
    const readOnly = request.method === 'GET' || request.method === 'HEAD'
    const { status, type, body } = readOnly
      ? answer((request.url ?? '').split('?')[0] ?? '')
      : { status: 405, type: TEXT, body: 'only GET\n' }
    response.writeHead(status, { 'content-type': type }).end(request.method === 'HEAD' ? undefined : body)
  })
  server.maxConnections = MAX_CONNECTIONS
  limitCallers(server, MAX_CONNECTIONS_PER_CALLER)
  server.listen({ host, port })
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server.close(), 'close')
      server.closeAllConnections()
      await closed
    },
  }
}

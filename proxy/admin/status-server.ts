// The status port: metrics, health, and the probes that were rewritten to it. It is reached directly by anyone in the
// cluster, in plaintext, so it gives away no more than numbers and statuses; probes hide behind the pod's random path.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { canonicalAddress } from '../../shared/addresses.ts'
import type { RewrittenProbe } from '../../shared/injection/settings.ts'
import { METRICS_CONTENT_TYPE, type Registry } from '../../shared/metrics.ts'
import { limitCallers } from '../../shared/shares.ts'
import { runProbe } from './probe.ts'
import { isReady, type Readiness } from './readiness.ts'

export type StatusOptions = {
  readonly port: number
  /** All addresses if absent. */
  readonly host?: string
  readonly metrics: Pick<Registry, 'render'>
  readonly probes: readonly RewrittenProbe[]
  /** Where the application is asked. */
  readonly podIp: string
  readiness(): Readiness
  /** Ends the sidecar; for Jobs on clusters without native sidecars. */
  quit(): void
  onLimit?(limit: 'status_connections' | 'status_probes'): void
}

/** Required on `POST /quit`, so that no page or forged form of the application's can send it by chance. */
export const QUIT_HEADER = 'postern-quit'

const MAX_PROBES_AT_ONCE = 32
const MAX_CONNECTIONS = 256
/** Of one address, so that no other pod can keep the kubelet's probes out. */
const MAX_CONNECTIONS_PER_CALLER = 32
const SERVER_OPTIONS = {
  maxHeaderSize: 16 * 1024,
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  // How often the two timeouts above are looked at: 30 s by default.
  connectionsCheckingInterval: 1_000,
}

type Answer = { readonly status: number; readonly body?: string; readonly type?: string }
const NOT_FOUND: Answer = { status: 404 }

export type StatusServer = AsyncDisposable & { readonly port: number }

export async function startStatusServer(options: StatusOptions): Promise<StatusServer> {
  const { onLimit = () => {} } = options
  const probes = new Map(options.probes.map(probe => [probe.path, probe]))
  let running = 0

  const answerProbe = async (
    probe: RewrittenProbe,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<Answer> => {
    if (running >= MAX_PROBES_AT_ONCE) {
      onLimit('status_probes')
      return { status: 503 }
    }
    running += 1
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    try {
      const userAgent = request.headers['user-agent'] ?? 'kube-probe'
      return { status: await runProbe(probe, options.podIp, userAgent, gone.signal) }
    } finally {
      running -= 1
    }
  }

  const route = async (request: IncomingMessage, response: ServerResponse): Promise<Answer> => {
    const { method, url = '' } = request
    if (method === 'POST') return url === '/quit' ? answerQuit(request, options) : NOT_FOUND
    if (method !== 'GET') return NOT_FOUND
    const probe = probes.get(url)
    if (probe) return answerProbe(probe, request, response)
    switch (url) {
      case '/metrics':
        return { status: 200, body: options.metrics.render(), type: METRICS_CONTENT_TYPE }
      case '/healthz':
        return { status: 200, body: 'ok\n' }
      case '/readyz':
        return answerReady(options.readiness())
      default:
        return NOT_FOUND
    }
  }

  const server = createServer(SERVER_OPTIONS, (request, response) => {
    request.resume()
    route(request, response).then(
      answer => send(response, answer),
      () => send(response, { status: 500 }),
    )
  })
  server.maxConnections = MAX_CONNECTIONS
  server.on('drop', () => onLimit('status_connections'))
  limitCallers(server, MAX_CONNECTIONS_PER_CALLER, () => onLimit('status_connections'))
  server.listen({ port: options.port, ...(options.host !== undefined && { host: options.host }) })
  await once(server, 'listening')
  const bound = server.address()
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : options.port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await once(server.close(), 'close')
    },
  }
}

function answerReady(readiness: Readiness): Answer {
  if (isReady(readiness)) return { status: 200, body: 'ready\n' }
  return { status: 503, body: `not ready: ${readiness.reasons.join('; ')}\n` }
}

/** From this pod alone: the port is not captured, so the socket's address is the caller's own. */
function answerQuit({ socket, headers }: IncomingMessage, { quit }: StatusOptions): Answer {
  const caller = canonicalAddress(socket.remoteAddress ?? '') ?? ''
  if (!caller.startsWith('127.') && caller !== '::1') return NOT_FOUND
  if (headers[QUIT_HEADER] !== 'yes') return { status: 400, body: `send the header ${QUIT_HEADER}: yes\n` }
  quit()
  return { status: 200, body: 'quitting\n' }
}

function send(
  response: ServerResponse,
  { status, body = '', type = 'text/plain; charset=utf-8' }: Answer,
): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body)
}

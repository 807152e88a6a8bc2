// Our bundle endpoint for partners, profile https_web (SPIFFE Federation, 5.2.1.3): one path, read by anybody who can reach it,
// without client authentication, as the standard demands. It may stand in the Internet: all of it is bounded.
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { limitCallers } from '../../shared/shares.ts'
import type { ServingCertificate } from '../webhook/server.ts'

export const BUNDLE_PATH = '/bundle.json'

export type BundleEndpointOptions = {
  readonly host?: string
  /** 0 takes a free one. */
  readonly port: number
  readonly bundle: Live<string>
  readonly certificate: Live<ServingCertificate | undefined>
  readonly log: Logger
}

export type BundleEndpoint = AsyncDisposable & {
  /** Undefined while there is no certificate: nothing listens. */
  readonly port: () => number | undefined
}

const MAX_CONNECTIONS = 128
const MAX_CONNECTIONS_PER_CALLER = 16
const SERVER_OPTIONS = {
  minVersion: 'TLSv1.2',
  ALPNProtocols: ['http/1.1'],
  handshakeTimeout: 5_000,
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8 * 1024,
} as const

/** Listens as soon as there is a certificate. */
export async function serveBundle(options: BundleEndpointOptions): Promise<BundleEndpoint> {
  const { certificate, bundle } = options
  let server: Server | undefined
  let over = false
  const settle = () => {
    const pair = certificate.get()
    if (!pair || over) return
    const context = { cert: pair.chain, key: pair.key }
    if (server) server.setSecureContext({ ...context, minVersion: 'TLSv1.2' })
    else server = listen(options, context, (request, response) => answer(request, response, bundle.get()))
  }
  const stop = certificate.subscribe(settle)
  settle()
  // What went wrong is in the log: `listen`.
  if (server) await once(server, 'listening').catch(() => undefined)
  return {
    port: () => (server?.address() as AddressInfo | null | undefined)?.port,
    [Symbol.asyncDispose]: async () => {
      over = true
      stop()
      if (!server?.listening) return
      const closed = once(server.close(), 'close')
      server.closeAllConnections()
      await closed
    },
  }
}

function listen(
  { host, port, log }: BundleEndpointOptions,
  context: { readonly cert: string; readonly key: string },
  onRequest: (request: IncomingMessage, response: ServerResponse) => void,
): Server {
  const server = createServer({ ...SERVER_OPTIONS, ...context }, onRequest)
  server.maxConnections = MAX_CONNECTIONS
  limitCallers(server, MAX_CONNECTIONS_PER_CALLER)
  server.on('tlsClientError', (_, socket) => socket.destroy())
  // The rest of the injector does its work without it.
  server.on('error', error => log.error(failure(error, 'PSTN_CONFIG_INVALID'), 'bundle endpoint failed'))
  return server.listen({ port, ...(host && { host }) })
}

function answer(request: IncomingMessage, response: ServerResponse, bundle: string): void {
  const { status, type, body } = answerTo(request, bundle)
  response.writeHead(status, {
    'content-type': `${type}; charset=utf-8`,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-cache',
    // What a request may bring beyond its head is not waited for.
    ...(status !== 200 && { connection: 'close' }),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

function answerTo({ method, url = '' }: IncomingMessage, bundle: string) {
  const [path] = url.split('?')
  if (path !== BUNDLE_PATH) return { status: 404, type: 'text/plain', body: `only ${BUNDLE_PATH}\n` }
  if (method !== 'GET' && method !== 'HEAD')
    return { status: 405, type: 'text/plain', body: 'only GET and HEAD\n' }
  return { status: 200, type: 'application/json', body: bundle }
}

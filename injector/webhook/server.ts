// The HTTPS server that the API server calls. Every limit is explicit, since anybody in the cluster network may reach
// the port: what is not an AdmissionReview is refused with a code and a message before it costs anything.
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { asPosternError, type Code } from '../../shared/errors.ts'
import { createLineQuota } from '../../shared/line-quota.ts'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { createShares } from '../../shared/shares.ts'
import {
  type AdmissionAnswer,
  type AdmissionRequest,
  admissionReview,
  parseAdmissionReview,
} from './admission.ts'
import { HttpRefusal, readBody } from './body.ts'
import {
  allowances,
  type CallerKind,
  type ConnectionLimits,
  callerOf,
  limitConnections,
  placeOf,
  type ReviewLimits,
} from './callers.ts'
import { createTurns } from './turns.ts'

export type AdmissionHandler = (request: AdmissionRequest, signal: AbortSignal) => Promise<AdmissionAnswer>

/** PEM. */
export type ServingCertificate = { readonly key: string; readonly chain: string }

export type WebhookLimits = ConnectionLimits &
  ReviewLimits & {
    readonly bodyBytes: number
    /** Of one address, about one namespace: who creates objects in it must not keep the other namespaces out. */
    readonly concurrentPerNamespace: number
    /** A whole request, and what a handler may take: below the 5 s that the API server waits. */
    readonly requestMs: number
    readonly handlerMs: number
    /** How long requests under way may go on at the end. */
    readonly drainMs: number
  }

/** etcd holds objects of 1.5 MiB; a review carries the object twice and more. */
export const WEBHOOK_LIMITS: WebhookLimits = {
  bodyBytes: 8 * 1024 * 1024,
  concurrent: 64,
  connections: 512,
  concurrentPerAddress: 32,
  concurrentReserved: 4,
  concurrentPerNamespace: 16,
  heldBytes: 96 * 1024 * 1024,
  heldBytesPerAddress: 32 * 1024 * 1024,
  connectionsPerAddress: 128,
  requestMs: 10_000,
  handlerMs: 4_500,
  drainMs: 5_000,
}

export type WebhookOptions = {
  readonly port: number
  readonly host?: string
  readonly serving: Live<ServingCertificate>
  /** By path: what answers the reviews that are sent there. */
  readonly routes: ReadonlyMap<string, AdmissionHandler>
  /** Whether an API server is known to have this address. Only for who comes first: nobody is refused for it. */
  readonly isApiServer: (address: string) => boolean
  readonly onReview?: (caller: CallerKind) => void
  readonly log: Logger
  readonly limits?: Partial<WebhookLimits>
}

export type WebhookServer = AsyncDisposable & { readonly port: number }

/** Serves until disposed; then lets the requests under way end. */
export async function serveWebhook(options: WebhookOptions): Promise<WebhookServer> {
  const { port, host, serving, routes, isApiServer, onReview = () => undefined, log } = options
  const limits = { ...WEBHOOK_LIMITS, ...options.limits }
  const quota = createLineQuota(log)
  const logRefusal = (refusal: Refusal) => {
    if (quota({ code: refusal.code, source: refusal.source })) log.warn(refusal, 'review refused')
  }
  const server = createServer(
    {
      ...secureContext(serving.get()),
      minVersion: 'TLSv1.2',
      handshakeTimeout: limits.requestMs,
      requestTimeout: limits.requestMs,
      headersTimeout: limits.requestMs,
      // How often the timeouts are looked at: every 30 s by default.
      connectionsCheckingInterval: limits.requestMs / 10,
      // The API server keeps idle connections for 90 s; closing first would race with its next request.
      keepAliveTimeout: 120_000,
    },
    respond({ routes, isApiServer, onReview, limits, logRefusal }),
  )
  limitConnections(server, limits, isApiServer, (error, source) =>
    logRefusal({ code: 'PSTN_LIMIT', error, source }),
  )
  server.on('tlsClientError', error =>
    log.debug(failure(error, 'PSTN_TLS_FAILED'), 'webhook handshake failed'),
  )
  const stop = serving.subscribe(certificate => server.setSecureContext(secureContext(certificate)))
  const { promise: listening, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject).listen(port, host, resolve)
  await listening
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      await drain(server, limits.drainMs)
      stop()
    },
  }
}

/** The API server does, within its own timeout: a burst of pods in one namespace is late and not refused. */
const COME_BACK_S = 1

const secureContext = ({ key, chain }: ServingCertificate) => ({ key, cert: chain })

async function drain(server: Server, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => resolve())
  const force = setTimeout(() => server.closeAllConnections(), ms)
  await promise
  clearTimeout(force)
}

type Refusal = {
  readonly code: Code
  readonly error: string
  readonly source: string | undefined
  readonly path?: string | undefined
}

type Context = Required<Pick<WebhookOptions, 'routes' | 'isApiServer' | 'onReview'>> & {
  readonly limits: WebhookLimits
  readonly logRefusal: (refusal: Refusal) => void
}

function respond({ routes, isApiServer, onReview, limits, logRefusal }: Context) {
  const turns = createTurns()
  const allowed = allowances(limits)
  const namespaces = createShares(limits.concurrentPerNamespace)
  const answer = async (request: IncomingMessage): Promise<object> => {
    const handler = handlerOf(request, routes)
    const { address, kind } = callerOf(request.socket, isApiServer)
    onReview(kind)
    const { takePlace, memory } = allowed[kind]
    using _place = takePlace(address)
    using body = await readBody(request, limits.bodyBytes, memory, address)
    const namespace = namespaceIn(body.bytes)
    using _share = placeOf(namespaces.take(`${address} ${namespace}`))
    return await turns.take({ caller: address, group: namespace, first: kind === 'api-server' }, async () => {
      if (request.socket.destroyed) throw new HttpRefusal(400, 'the caller went away')
      const review = parseAdmissionReview(body.bytes)
      return admissionReview(review.uid, await handler(review, AbortSignal.timeout(limits.handlerMs)))
    })
  }
  return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      sendJson(response, 200, await answer(request))
    } catch (thrown) {
      const { code, message } = asPosternError(thrown, 'PSTN_ADMISSION_MALFORMED')
      logRefusal({ code, error: message, path: request.url, source: request.socket.remoteAddress })
      if (!request.complete) response.setHeader('connection', 'close')
      if (thrown instanceof HttpRefusal && thrown.status === 503)
        response.setHeader('retry-after', COME_BACK_S)
      sendJson(response, thrown instanceof HttpRefusal ? thrown.status : 400, { code, message })
    }
  }
}

/** The API server writes it before the object. Only for whose account the work is on: the review itself is read when its turn comes. */
const NAMESPACE = /"namespace":"([a-z0-9-]{1,63})"/
const BEFORE_THE_OBJECT = 4_096

const namespaceIn = (body: Buffer): string =>
  NAMESPACE.exec(body.toString('latin1', 0, BEFORE_THE_OBJECT))?.[1] ?? ''

function handlerOf(request: IncomingMessage, routes: Context['routes']): AdmissionHandler {
  const [path = ''] = (request.url ?? '').split('?')
  const handler = routes.get(path)
  if (!handler) throw new HttpRefusal(404, `nothing is served at ${JSON.stringify(path)}`)
  if (request.method !== 'POST') throw new HttpRefusal(405, `${request.method} is not POST`)
  const [type = ''] = (request.headers['content-type'] ?? '').split(';')
  if (type.trim().toLowerCase() !== 'application/json')
    throw new HttpRefusal(415, `content-type ${JSON.stringify(type)} is not application/json`)
  return handler
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body)
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  })
  response.end(text)
}

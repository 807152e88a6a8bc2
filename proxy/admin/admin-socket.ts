// The administrator's socket, in the volume that only the sidecar mounts: whoever may run a command in the sidecar's
// container may ask it what it knows and tell it to drain. `curl --unix-socket /run/postern/admin.sock http://x/config`
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { LOG_LEVELS, type Logger } from '../../shared/log.ts'

export type AdminOptions = {
  readonly path: string
  readonly log: Logger
  /** What is in force, without secrets: configuration, policy, trust, the directory's answers. */
  config(): unknown
  /** The own certificate and the roots, without keys. */
  certificates(): unknown
  /** Takes nothing new from now on; live connections go on. */
  drain(): void
}

const ENDPOINTS = ['GET /config', 'GET /certificates', 'GET /log-level', 'PUT /log-level', 'POST /drain']
const MAX_BODY_BYTES = 64
const OWNER_ONLY = 0o177

type Answer = { readonly status: number; readonly body: unknown }

export async function startAdminSocket(options: AdminOptions): Promise<AsyncDisposable> {
  const server = createServer((request, response) => {
    route(request, options).then(
      answer => send(response, answer),
      thrown => send(response, { status: 500, body: { error: String(thrown) } }),
    )
  })
  // A killed sidecar leaves its socket in the volume.
  await rm(options.path, { force: true })
  // The socket is made with its mode: a later chmod would leave a moment in which others could connect.
  const former = process.umask(OWNER_ONLY)
  try {
    server.listen(options.path)
  } finally {
    process.umask(former)
  }
  await once(server, 'listening')
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await once(server.close(), 'close')
    },
  }
}

async function route(request: IncomingMessage, options: AdminOptions): Promise<Answer> {
  switch (`${request.method} ${request.url}`) {
    case 'GET /config':
      return { status: 200, body: options.config() }
    case 'GET /certificates':
      return { status: 200, body: options.certificates() }
    case 'GET /log-level':
      return { status: 200, body: { level: options.log.level } }
    case 'PUT /log-level':
      return setLogLevel(request, options.log)
    case 'POST /drain':
      options.drain()
      return { status: 202, body: { draining: true } }
    default:
      return { status: 404, body: { error: 'unknown endpoint', endpoints: ENDPOINTS } }
  }
}

async function setLogLevel(request: IncomingMessage, log: Logger): Promise<Answer> {
  if (Number(request.headers['content-length'] ?? Infinity) > MAX_BODY_BYTES) {
    return { status: 413, body: { error: 'send the level as a short body' } }
  }
  const wanted = (await text(request)).trim()
  const level = LOG_LEVELS.find(candidate => candidate === wanted)
  if (level === undefined) return { status: 400, body: { error: `one of ${LOG_LEVELS.join(', ')}` } }
  log.level = level
  return { status: 200, body: { level } }
}

function send(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body, null, 2)}\n`)
}

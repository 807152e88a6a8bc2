// How others read HTTP/1.1: Node's own server, in this process, and nginx as a reverse proxy in front of it. Each tells
// what requests it found in the bytes of one connection.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, METHODS, type Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import type { Test } from 'tap'
import type { Message } from './http1-messages.ts'
import { startProgram, waitUntilReady } from './processes.ts'
import { findCommand } from './requirements.ts'
import { scratchDirectory } from './scratch.ts'

export type Seen = Pick<Message, 'method' | 'target' | 'fields' | 'body' | 'trailers' | 'complete'>

export type Sight = {
  readonly requests: readonly Seen[]
  /** What it answered by itself where it refused to go on. */
  readonly refusal: string | undefined
}

export type Peer = {
  readonly name: string
  /** What it refuses whatever it looks like, or cannot show us, is left out. */
  reads(message: Message): boolean
  /** `bytes` on a connection of their own, read until nothing more happens. */
  read(bytes: Buffer): Promise<Sight>
  /** Whether what the gate passed on is what the peer saw. */
  agrees(passed: Message, seen: Seen): boolean
}

type Recorded = Seen & { complete: boolean; body: string; trailers: Message['trailers'] }

function record(request: IncomingMessage, into: Recorded[], whole: () => void): void {
  const { method = '', url: target = '', rawHeaders } = request
  const seen: Recorded = {
    method,
    target,
    fields: pairs(rawHeaders),
    body: '',
    trailers: [],
    complete: false,
  }
  into.push(seen)
  request.on('error', () => {})
  request.on('data', chunk => {
    seen.body += chunk.toString('latin1')
  })
  request.on('end', () => {
    seen.complete = true
    seen.trailers = pairs(request.rawTrailers)
    whole()
  })
}

/** Reads what is pushed, and throws away what is written. */
class Wire extends Duplex {
  override _read(): void {}
  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    done()
  }
}

export function nodePeer(): Peer {
  let seen: Recorded[] = []
  let refusal: string | undefined
  const server = createServer({ requireHostHeader: false, maxHeaderSize: 64 * 1024 }, request =>
    record(request, seen, () => {}),
  )
  server.on('clientError', (error: Error & { code?: string }, socket) => {
    refusal = error.code ?? error.message
    socket.destroy()
  })
  return {
    name: 'Node',
    reads: ({ method }) => METHODS.includes(method),
    read: async bytes => {
      seen = []
      refusal = undefined
      const requests = seen
      const wire = new Wire().on('error', () => {})
      server.emit('connection', wire)
      wire.push(bytes)
      for (let turns = 0, last = -1; turns < 3 || last !== weight(requests); turns += 1) {
        last = weight(requests)
        await turn()
      }
      const sight = { requests: requests.map(one => ({ ...one })), refusal }
      wire.destroy()
      return sight
    },
    agrees: (passed, one) =>
      same(passed, one) &&
      JSON.stringify(passed.fields) === JSON.stringify(one.fields) &&
      JSON.stringify(passed.trailers) === JSON.stringify(one.trailers),
  }
}

const weight = (requests: readonly Seen[]): number =>
  requests.reduce((sum, { body, complete }) => sum + 1 + body.length + (complete ? 1 : 0), 0)

/** What a reverse proxy writes anew, or removes, on each hop. */
const HOP_BY_HOP = /^(?:connection|keep-alive|te|transfer-encoding|content-length|upgrade|expect)$/

const NGINX = (folder: string) => `
daemon off; master_process off; pid ${folder}/pid; error_log stderr crit;
events { worker_connections 256; }
http {
  access_log off; keepalive_requests 10000000; keepalive_timeout 60s; client_max_body_size 0; lingering_close off;
  underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
  client_header_buffer_size 64k; large_client_header_buffers 8 64k;
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi; scgi_temp_path ${folder}/scgi;
  upstream recorder { server unix:${folder}/recorder; keepalive 4; }
  server {
    listen unix:${folder}/nginx;
    location / {
      proxy_pass http://recorder; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $http_host;
    }
  }
}
`

/** A last request that closes: what came before it has been read. */
const LAST = Buffer.from('GET /the-last-request HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n')

export async function nginxPeer(t: Test): Promise<Peer> {
  const folder = scratchDirectory(t)
  let seen: Recorded[] = []
  const recorder: Server = createServer(
    { requireHostHeader: false, maxHeaderSize: 128 * 1024 },
    (request, response) => record(request, seen, () => response.end()),
  )
  recorder.listen(join(folder, 'recorder'))
  await once(recorder, 'listening')
  t.teardown(() => {
    recorder.closeAllConnections()
    recorder.close()
  })
  writeFileSync(join(folder, 'nginx.conf'), NGINX(folder))
  const log = join(folder, 'log')
  const command = findCommand('nginx') ?? 'nginx'
  const running = startProgram({
    command,
    args: ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', log],
    log,
  })
  t.teardown(() => running.stop())
  const dial = () => connect({ path: join(folder, 'nginx') })
  const ready = async () => {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const socket = dial()
      .once('connect', () => resolve(true))
      .once('error', () => resolve(false))
    const answer = await promise
    socket.destroy()
    return answer
  }
  await waitUntilReady('nginx', ready, { timeoutMs: 10_000, running, log })
  return {
    name: 'nginx',
    // Without its end, it could not be told from silence.
    reads: ({ method, target, complete }) =>
      complete && METHODS.includes(method) && method !== 'TRACE' && target !== '*',
    read: async bytes => {
      seen = []
      const requests = seen
      const socket = dial().on('error', () => {})
      socket.write(bytes)
      socket.write(LAST)
      const answers = await untilClosed(socket)
      const statuses = [...answers.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status ?? '')
      const refusal = statuses.find(status => status !== '200' && status !== '100')
      const isLast = requests.at(-1)?.target === '/the-last-request'
      return {
        requests: isLast ? requests.slice(0, -1) : requests,
        refusal,
      }
    },
    agrees: (passed, one) =>
      same(passed, one) && JSON.stringify(endToEnd(passed.fields)) === JSON.stringify(endToEnd(one.fields)),
  }
}

const same = (passed: Message, seen: Seen): boolean =>
  passed.method === seen.method && passed.target === seen.target && passed.body === seen.body && seen.complete

/** nginx puts the host first. */
function endToEnd(fields: Message['fields']): Message['fields'] {
  const passing = fields.filter(([name]) => !HOP_BY_HOP.test(name))
  return [...passing.filter(([name]) => name === 'host'), ...passing.filter(([name]) => name !== 'host')]
}

async function untilClosed(socket: Socket): Promise<string> {
  const chunks: Buffer[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).once('close', () => resolve())
  socket.setTimeout(2_000, () => socket.destroy())
  await promise
  return Buffer.concat(chunks).toString('latin1')
}

function pairs(raw: readonly string[]): Message['fields'] {
  const fields: (readonly [string, string])[] = []
  for (let i = 0; i + 1 < raw.length; i += 2) fields.push([(raw[i] ?? '').toLowerCase(), raw[i + 1] ?? ''])
  return fields
}

// A real application that speaks HTTP/1.1, behind two sidecars that know it: what the tests of the request gate talk to.
import type { IncomingMessage } from 'node:http'
import { Agent, request as httpRequest, type OutgoingHttpHeaders } from 'node:http'
import type { Server, Socket } from 'node:net'
import type { AuthorizationPolicy } from '../../shared/policy/model.ts'
import { type DataPath, dataPath } from './data-path.ts'

export type GatedPath = DataPath & { readonly port: number; readonly agent: Agent }

/** `agent` dials through the tunnel and keeps one connection. */
export async function gatedPath(application: Server): Promise<GatedPath> {
  const path = await dataPath(application)
  const bound = application.address()
  if (bound === null || typeof bound === 'string') throw new Error('a TCP server has an address')
  path.protocols.set({ [bound.port]: 'http1' })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  agent.createConnection = () => path.dial()
  return { ...path, port: bound.port, agent, [Symbol.asyncDispose]: path[Symbol.asyncDispose] }
}

export type Answer = {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly trailers: IncomingMessage['trailers']
  readonly body: string
}

export type Asked = {
  readonly method?: string
  readonly path?: string
  readonly headers?: OutgoingHttpHeaders
  readonly body?: string | Buffer
}

export function ask(
  agent: Agent,
  { method = 'GET', path = '/', headers = {}, body }: Asked = {},
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const request = httpRequest({ agent, method, path, headers: { host: 'shop', ...headers } }, response => {
    collect(response).then(resolve, reject)
  })
  request.on('error', reject)
  request.end(body)
  return promise
}

export async function collect(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  const { statusCode: status = 0, headers, trailers } = response
  return { status, headers, trailers, body: Buffer.concat(chunks).toString('latin1') }
}

/** Reads a socket piece by piece: `until` resolves with all that has come once it contains `text`. */
export function reader(socket: Socket): { until(text: string): Promise<string>; all(): Promise<string> } {
  let received = ''
  let over = false
  let wake = () => {}
  socket.on('data', chunk => {
    received += chunk.toString('latin1')
    wake()
  })
  const end = () => {
    over = true
    wake()
  }
  socket.once('end', end).once('close', end)
  const next = () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    wake = resolve
    return promise
  }
  return {
    until: async text => {
      while (!received.includes(text)) {
        if (over) throw new Error(`ended after ${JSON.stringify(received)} without ${JSON.stringify(text)}`)
        await next()
      }
      return received
    },
    all: async () => {
      while (!over) await next()
      return received
    },
  }
}

export const denyPath = (path: string): AuthorizationPolicy => ({
  kind: 'AuthorizationPolicy',
  name: 'shop/no-path',
  action: 'DENY',
  rules: [{ to: [{ paths: [path] }] }],
  features: ['http'],
})

// A partner's bundle endpoint that answers as a case says: https with a certificate of a test's authority.
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { type Authority, createAuthority } from './authority.ts'

export type WebServer = AsyncDisposable & {
  readonly url: string
  readonly authority: Authority
  /** How often it was asked. */
  readonly asked: () => number
  answer: (request: IncomingMessage, response: ServerResponse) => void
}

export const jsonAnswer = (text: string) => (_: IncomingMessage, response: ServerResponse) => {
  response.writeHead(200, { 'content-type': 'application/json' }).end(text)
}

export async function startWebServer(
  answer: WebServer['answer'],
  port = 0,
  known?: Authority,
): Promise<WebServer> {
  const authority = known ?? (await createAuthority('web'))
  const { cert, key } = await authority.issue({
    commonName: 'localhost',
    dns: ['localhost'],
    ips: ['127.0.0.1'],
  })
  let asked = 0
  const web: { answer: WebServer['answer'] } = { answer }
  const server = createServer({ cert, key }, (request, response) => {
    asked += 1
    web.answer(request, response)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const url = `https://localhost:${(server.address() as AddressInfo).port}/bundle.json`
  return Object.assign(web, {
    url,
    authority,
    asked: () => asked,
    [Symbol.asyncDispose]: async () => {
      if (!server.listening) return
      const closed = once(server.close(), 'close')
      server.closeAllConnections()
      await closed
    },
  })
}

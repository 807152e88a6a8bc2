// An injector's end of the control stream over real mutual TLS, saying what a test tells it to: also what an honest
// injector never says.
import { once } from 'node:events'
import { createSecureServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { decodeFromSidecar } from '../../shared/control/decode.ts'
import type { FromSidecar } from '../../shared/control/messages.ts'
import { serverTlsOptions } from '../../shared/tls/contexts.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { Issued } from './certificates.ts'

export type Visit = {
  readonly stream: ServerHttp2Stream
  readonly messages: FromSidecar[]
  say(message: unknown): void
  /** The next message of this kind that has not been waited for. */
  next<K extends FromSidecar['kind']>(kind: K): Promise<Extract<FromSidecar, { kind: K }>>
}

export type ScriptedInjector = AsyncDisposable & {
  readonly address: string
  readonly visits: Visit[]
  /** The visit with this number, counted from 0, as soon as there is one. */
  visit(number: number): Promise<Visit>
}

export async function scriptedInjector(
  issued: Issued,
  bundle: TrustBundle,
  answer: (stream: ServerHttp2Stream) => void = stream => stream.respond({ ':status': 200 }),
  port = 0,
): Promise<ScriptedInjector> {
  const tls = serverTlsOptions({ key: issued.key, chain: issued.chain }, bundle)
  const server = createSecureServer(tls)
  const sessions = new Set<ServerHttp2Session>()
  const visits: Visit[] = []
  server.on('session', session => {
    sessions.add(session)
    session.on('error', () => undefined)
    session.on('close', () => sessions.delete(session))
  })
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => undefined)
    answer(stream)
    visits.push(visitOf(stream))
    server.emit('visit')
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    visits,
    visit: async number => {
      for (;;) {
        const found = visits[number]
        if (found) return found
        await once(server, 'visit')
      }
    },
    [Symbol.asyncDispose]: async () => {
      for (const session of sessions) session.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

function visitOf(stream: ServerHttp2Stream): Visit {
  const messages: FromSidecar[] = []
  let taken = 0
  createInterface({ input: stream }).on('line', line => {
    messages.push(decodeFromSidecar(line))
    stream.emit('message')
  })
  return {
    stream,
    messages,
    say: message => stream.write(`${JSON.stringify(message)}\n`),
    next: async kind => {
      for (;;) {
        for (const [index, message] of messages.entries()) {
          if (index < taken || message.kind !== kind) continue
          taken = index + 1
          return message as Extract<FromSidecar, { kind: typeof kind }>
        }
        await once(stream, 'message')
      }
    },
  }
}

// An agent that serves the SPIFFE Workload API as a test tells it to: denials, half messages and agents that hang cannot be
// had from a real one. What a real SPIRE does is in test/long. Its messages are written by an own encoder of Protocol Buffers.

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { live } from '../../shared/live.ts'
import { splitPem } from '../../shared/trust-bundle.ts'

export type GivenSvid = {
  readonly identity: string
  /** PEM. */
  readonly key: string
  readonly chain: string
  readonly bundle: readonly string[]
  readonly hint?: string
}

export function varint(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    bytes.push(rest < 128 ? rest : (rest % 128) | 0x80)
    if (rest < 128) return Buffer.from(bytes)
  }
}

/** A field of wire type 2. */
export const field = (number: number, content: Buffer | string): Buffer => {
  const bytes = Buffer.from(content)
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes])
}

const derOf = (pem: string): Buffer =>
  Buffer.concat(splitPem(pem).map(certificate => new X509Certificate(certificate).raw))

export const svidFields = ({ identity, key, chain, bundle, hint }: GivenSvid): Buffer[] => [
  field(1, identity),
  field(2, derOf(chain)),
  field(3, createPrivateKey(key).export({ format: 'der', type: 'pkcs8' })),
  field(4, derOf(bundle.join(''))),
  ...(hint === undefined ? [] : [field(5, hint)]),
]

/** X509SVIDResponse. */
export const response = (...svids: readonly GivenSvid[]): Buffer =>
  Buffer.concat(svids.map(svid => field(1, Buffer.concat(svidFields(svid)))))

export const framed = (message: Buffer): Buffer => {
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(message.length, 1)
  return Buffer.concat([prefix, message])
}

export type WorkloadApiServer = AsyncDisposable & {
  /** The headers of each call, in order. */
  readonly calls: readonly Record<string, unknown>[]
  /** Sent to who calls, and to who has called. Undefined: an agent that does not answer. */
  message: Buffer | undefined
  /** With what the next calls end at once instead. */
  status: { readonly code: number; readonly message?: string } | undefined
  /** Ends the streams that are open. */
  end(code: number, message?: string): void
  /** As SIGKILL does. */
  kill(): Promise<void>
  called(count: number): Promise<void>
}

export async function serveWorkloadApi(socket: string): Promise<WorkloadApiServer> {
  const server = createServer()
  const sessions = new Set<ServerHttp2Session>()
  const streams = new Set<ServerHttp2Stream>()
  const calls: Record<string, unknown>[] = []
  const count = live(0)
  let [message, status]: [WorkloadApiServer['message'], WorkloadApiServer['status']] = [undefined, undefined]
  const trailer = (code: number, text = '') => ({
    'grpc-status': String(code),
    'grpc-message': encodeURIComponent(text),
  })
  server.on('session', session => {
    sessions.add(session)
    session.on('close', () => sessions.delete(session))
    session.on('error', () => {})
  })
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {})
    calls.push(headers)
    count.set(calls.length)
    const answer = { ':status': 200, 'content-type': 'application/grpc' }
    if (status) {
      stream.respond({ ...answer, ...trailer(status.code, status.message) }, { endStream: true })
      return
    }
    streams.add(stream)
    stream.on('close', () => streams.delete(stream))
    stream.respond(answer, { waitForTrailers: true })
    if (message) stream.write(framed(message))
  })
  server.listen(socket)
  await once(server, 'listening')
  const kill = async () => {
    for (const session of sessions) session.destroy()
    const closed = once(server, 'close')
    server.close()
    await closed
  }
  return {
    calls,
    get message() {
      return message
    },
    set message(next) {
      message = next
      if (next) for (const stream of streams) stream.write(framed(next))
    },
    get status() {
      return status
    },
    set status(next) {
      status = next
    },
    end: (code, text) => {
      for (const stream of streams) {
        stream.on('wantTrailers', () => stream.sendTrailers(trailer(code, text)))
        stream.end()
      }
    },
    kill,
    called: async wanted => {
      while (calls.length < wanted) await new Promise<void>(resolve => void count.subscribe(() => resolve()))
    },
    [Symbol.asyncDispose]: () => (server.listening ? kill() : Promise.resolve()),
  }
}

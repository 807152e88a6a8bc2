// The little of gRPC that a server stream over a Unix socket needs, on node:http2: one empty request, and messages until a
// status. A gRPC library would cost each sidecar more memory than all of its own code. Source: grpc.io, "gRPC over HTTP2".
import {
  type ClientHttp2Stream,
  connect as connectHttp2,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2'
import { connect } from 'node:net'

/** The statuses that somebody here tells apart. */
export const GRPC = { ok: 0, invalidArgument: 3, permissionDenied: 7, unimplemented: 12 } as const

/** The stream has ended with another status than OK. */
export class GrpcError extends Error {
  override readonly name = 'GrpcError'
  readonly status: number

  constructor(status: number, message: string) {
    super(`gRPC status ${status}${message === '' ? '' : `: ${message}`}`)
    this.status = status
  }
}

export type GrpcCall = {
  /** Path of a Unix socket. */
  readonly socket: string
  /** `/<service>/<method>` */
  readonly method: string
  readonly metadata: Readonly<Record<string, string>>
}

/** A message without fields: not compressed, of no bytes. */
const EMPTY_MESSAGE = Buffer.alloc(5)
const PREFIX_BYTES = 5
/** As much as gRPC's own clients read. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024
const MAX_STATUS_MESSAGE = 200

/** The messages of a call with an empty request. @throws GrpcError, or what the connection failed with. */
export async function* serverStream(
  { socket, method, metadata }: GrpcCall,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const session = connectHttp2('http://localhost', {
    createConnection: () => connect(socket),
    settings: { enablePush: false },
  })
  session.on('error', () => {}) // the stream fails with it
  try {
    const request = {
      ':method': 'POST',
      ':path': method,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...metadata,
    }
    const stream = session.request(request, { signal })
    const status = statusOf(stream)
    stream.end(EMPTY_MESSAGE)
    const messages = new MessageReader()
    for await (const chunk of stream) yield* messages.push(chunk)
    const failure = status()
    if (failure) throw failure
  } finally {
    session.destroy()
  }
}

/** In the trailers, or in the only headers of an answer that has no messages. Undefined: OK. */
function statusOf(stream: ClientHttp2Stream): () => Error | undefined {
  let headers: IncomingHttpHeaders & IncomingHttpStatusHeader = {}
  let trailers: IncomingHttpHeaders = {}
  stream.on('response', received => {
    headers = received
  })
  stream.on('trailers', received => {
    trailers = received
  })
  return () => {
    const text = trailers['grpc-status'] ?? headers['grpc-status']
    if (text === undefined) return new Error(`the stream ended without a status: HTTP ${headers[':status']}`)
    const status = /^\d{1,2}$/.test(String(text)) ? Number(text) : Number.NaN
    if (status === GRPC.ok) return undefined
    return new GrpcError(status, statusMessage(trailers['grpc-message'] ?? headers['grpc-message']))
  }
}

function statusMessage(encoded: unknown): string {
  const text = String(encoded ?? '').slice(0, MAX_STATUS_MESSAGE)
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Cuts a stream of bytes into messages. @throws RangeError at one that is compressed or too long. */
export class MessageReader {
  #chunks: Buffer[] = []
  #held = 0

  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk)
    this.#held += chunk.length
    const messages: Buffer[] = []
    for (let message = this.#next(); message; message = this.#next()) messages.push(message)
    return messages
  }

  #next(): Buffer | undefined {
    if (this.#held < PREFIX_BYTES) return undefined
    const length = lengthIn(this.#peek(PREFIX_BYTES))
    const end = PREFIX_BYTES + length
    if (this.#held < end) return undefined
    const whole = this.#peek(this.#held)
    this.#chunks = [whole.subarray(end)]
    this.#held -= end
    return whole.subarray(PREFIX_BYTES, end)
  }

  /** At least so many of the bytes that are held, in one piece. */
  #peek(bytes: number): Buffer {
    const [first = Buffer.alloc(0)] = this.#chunks
    if (first.length >= bytes) return first
    const whole = Buffer.concat(this.#chunks)
    this.#chunks = [whole]
    return whole
  }
}

function lengthIn(prefix: Buffer): number {
  if (prefix[0] !== 0) throw new RangeError('a compressed message, which was not asked for')
  const length = prefix.readUInt32BE(1)
  if (length > MAX_MESSAGE_BYTES) throw new RangeError(`a message of ${length} bytes`)
  return length
}

// The gRPC health check (grpc.health.v1.Health/Check) as the kubelet makes it, over node:http2. Its two messages have
// one field each, so they are written and read here instead of by a protobuf library.
import { once } from 'node:events'
import { connect } from 'node:http2'
import { buffer } from 'node:stream/consumers'
import { authorityOf } from '../../shared/addresses.ts'
import type { Destination } from '../accept/original-destination.ts'

const METHOD = '/grpc.health.v1.Health/Check'
const SERVING = 1
const MAX_ANSWER_BYTES = 64 * 1024
const PREFIX_BYTES = 5

/** Whether the application answers SERVING. Rejects when it does not answer, or `signal` aborts. */
export async function isServing(app: Destination, service: string, signal: AbortSignal): Promise<boolean> {
  const session = connect(`http://${authorityOf(app.address, app.port)}`)
  // A stream's own error says the same.
  session.on('error', () => {})
  const end = () => session.destroy()
  signal.addEventListener('abort', end, { once: true })
  try {
    const stream = session.request(
      {
        ':method': 'POST',
        ':path': METHOD,
        'content-type': 'application/grpc',
        te: 'trailers',
        'user-agent': 'kube-probe',
      },
      { signal },
    )
    stream.end(encodeRequest(service))
    const trailers = once(stream, 'trailers', { signal })
    trailers.catch(() => {})
    const [headers] = await once(stream, 'response', { signal })
    if (headers[':status'] !== 200 || headers['grpc-status'] !== undefined) return false
    const answer = await buffer(limited(stream, MAX_ANSWER_BYTES))
    const [{ 'grpc-status': status }] = await trailers
    return status === '0' && decodeStatus(answer) === SERVING
  } finally {
    signal.removeEventListener('abort', end)
    session.destroy()
  }
}

/** A length-prefixed HealthCheckRequest { string service = 1; }. */
export function encodeRequest(service: string): Buffer {
  const name = Buffer.from(service)
  const message = name.length === 0 ? name : Buffer.concat([Buffer.of(0x0a), varint(name.length), name])
  const prefix = Buffer.alloc(PREFIX_BYTES)
  prefix.writeUInt32BE(message.length, 1)
  return Buffer.concat([prefix, message])
}

/** `status` of a length-prefixed HealthCheckResponse { ServingStatus status = 1; }, or undefined if it is none. */
export function decodeStatus(answer: Buffer): number | undefined {
  if (answer.length < PREFIX_BYTES || answer[0] !== 0) return undefined
  const message = answer.subarray(PREFIX_BYTES)
  if (answer.readUInt32BE(1) !== message.length) return undefined
  // Proto3 leaves the default (UNKNOWN) out.
  if (message.length === 0) return 0
  return message.length === 2 && message[0] === 0x08 ? message[1] : undefined
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80)
  return Buffer.of(...bytes, rest)
}

async function* limited(chunks: AsyncIterable<Buffer>, max: number): AsyncGenerator<Buffer> {
  let left = max
  for await (const chunk of chunks) {
    left -= chunk.length
    if (left < 0) throw new Error(`the answer is longer than ${max} bytes`)
    yield chunk
  }
}

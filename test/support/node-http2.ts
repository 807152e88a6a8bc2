// Another HBONE peer: node:http2, as client and as server, whose streams are made to behave like ours.
import { once } from 'node:events'
import {
  connect as connectHttp2,
  constants,
  createSecureServer,
  type Http2Stream,
  type ServerHttp2Stream,
} from 'node:http2'
import { connect as connectTls } from 'node:tls'
import type { ByteStream, Sink } from '../../proxy/tunnel/byte-stream.ts'
import type { TunnelTls } from '../../proxy/tunnel/interface.ts'
import { DuplexOf } from './duplex-of.ts'

const LIMITS = {
  settings: { enablePush: false, initialWindowSize: 1024 * 1024 },
  maxSessionMemory: 256,
} as const

export type Answered = {
  readonly status: number
  readonly code: string | undefined
  readonly stream: DuplexOf
}

/** One session, made with its first stream. */
export function nodeHttp2Client({ context }: TunnelTls, port: number) {
  const socket = connectTls({
    ...context,
    host: '127.0.0.1',
    port,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: false,
  })
  const session = connectHttp2('https://127.0.0.1', { ...LIMITS, createConnection: () => socket })
  session.on('error', () => {})
  return {
    session,
    open: async (authority = '127.0.0.1:8080'): Promise<Answered> => {
      const stream = session.request({ ':method': 'CONNECT', ':authority': authority })
      stream.on('error', () => {})
      const bytes = asByteStream(stream)
      const [headers] = await once(stream, 'response')
      const code: unknown = headers['postern-code']
      return {
        status: Number(headers[':status']),
        code: code === undefined ? undefined : String(code),
        stream: new DuplexOf(bytes),
      }
    },
  }
}

/** Answers every CONNECT with 200, or with what `refuse` says, and hands its stream on. */
export async function nodeHttp2Server(
  { context }: TunnelTls,
  onStream: (stream: DuplexOf) => void,
  refuse: () => { ':status': number; 'postern-code'?: string } | undefined = () => undefined,
) {
  const server = createSecureServer({ ...LIMITS, ...context, requestCert: true, rejectUnauthorized: false })
  const sockets = new Set<{ destroy(): void }>()
  server.on('secureConnection', socket => sockets.add(socket))
  server.on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {})
    const refusal = refuse()
    if (refusal) return stream.respond(refusal, { endStream: true })
    const bytes = asByteStream(stream)
    stream.respond({ ':status': 200 })
    onStream(new DuplexOf(bytes))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  return {
    port: typeof bound === 'object' && bound ? bound.port : 0,
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

/**
 * END_STREAM is FIN and RST_STREAM is RST (RFC 9113, section 8.5). node:http2 blurs the two: it sends END_STREAM before
 * each RST_STREAM, and ends the readable side of streams that were cut off.
 */
function asByteStream(stream: Http2Stream): ByteStream {
  const final = stream._final
  stream._final = callback => (stream.closed ? callback() : final.call(stream, callback))
  // A server's stream that ends before its first read is taken for one whose request does not interest anybody.
  stream.read(0)
  return {
    open: sink => deliver(stream, sink),
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    write: chunk => stream.write(chunk),
    end: () => void stream.end(),
    reset: () => {
      if (!stream.closed) stream.close(constants.NGHTTP2_CONNECT_ERROR)
      stream.destroy()
    },
  }
}

function deliver(stream: Http2Stream, sink: Sink): void {
  const cutOff = () => stream.aborted || (stream.rstCode ?? 0) !== 0
  let ended = false
  stream.on('data', (chunk: Buffer) => sink.data(chunk))
  stream.on('drain', () => sink.drain())
  stream.once('end', () => {
    ended = !cutOff()
    if (ended) sink.end()
  })
  stream.once('close', () => sink.closed(ended && stream.writableFinished && !cutOff() ? 'ended' : 'reset'))
}

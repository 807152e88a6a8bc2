// An HTTP/2 stream with a TCP connection's manners (RFC 9113, section 8.5: END_STREAM is FIN, RST_STREAM with
// CONNECT_ERROR is RST). node:http2 blurs the two, and an application would take half an answer for a whole one:
// it sends END_STREAM before each RST_STREAM, and ends the readable side of streams that were cut off.
import { constants, type Http2Stream } from 'node:http2'
import type { ByteStream, Sink } from './byte-stream.ts'

/** Must be called before the stream can have been read from. */
export function asByteStream(stream: Http2Stream): ByteStream {
  // close() and destroy() mark the stream closed and then end() it; only our own end may reach the wire.
  const final = stream._final
  stream._final = callback => (stream.closed ? callback() : final.call(stream, callback))
  // A server's stream that ends before its first read is taken for one whose request does not interest anybody.
  stream.read(0)
  // `aborted` is set when the stream was closed while our own side was still open.
  const cutOff = () => stream.aborted || (stream.rstCode ?? 0) !== 0
  return {
    open: sink => deliver(stream, sink, cutOff),
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    write: chunk => stream.write(chunk),
    end: () => void stream.end(),
    reset: () => reset(stream),
  }
}

function deliver(stream: Http2Stream, sink: Sink, cutOff: () => boolean): void {
  if (stream.closed && stream.destroyed) {
    process.nextTick(() => sink.closed('reset'))
    return
  }
  let ended = false
  stream.on('data', (chunk: Buffer) => sink.data(chunk))
  stream.on('drain', () => sink.drain())
  stream.once('end', () => {
    ended = !cutOff()
    if (ended) sink.end()
  })
  stream.once('close', () => sink.closed(ended && stream.writableFinished && !cutOff() ? 'ended' : 'reset'))
}

/** `destroy` alone would say INTERNAL_ERROR, or nothing if our side has ended. */
export function reset(stream: Http2Stream, code = constants.NGHTTP2_CONNECT_ERROR): void {
  if (stream.destroyed) return
  if (!stream.closed) stream.close(code)
  stream.destroy()
}

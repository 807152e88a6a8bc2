// An HTTP/2 stream with a TCP connection's manners (RFC 9113, section 8.5: END_STREAM is FIN, RST_STREAM with
// CONNECT_ERROR is RST). node:http2 blurs the two, and an application would take half an answer for a whole one:
// it sends END_STREAM before each RST_STREAM, and ends the readable side of streams that were cut off.
import { constants, type Http2Stream } from 'node:http2'
import type { Connection } from './interface.ts'

export function asConnection<S extends Http2Stream>(stream: S): S & Connection {
  // close() and destroy() mark the stream closed and then end() it; only our own end may reach the wire.
  const final = stream._final
  stream._final = callback => (stream.closed ? callback() : final.call(stream, callback))
  // A server's stream that ends before its first read is taken for one whose request does not interest anybody.
  stream.read(0)
  const connection = Object.assign(stream, { resetAndDestroy: () => reset(stream) })
  // `aborted` is set when the stream was closed while our own side was still open.
  const cutOff = () => stream.aborted || (stream.rstCode ?? 0) !== 0
  return Object.defineProperty(connection, 'cutOff', { get: cutOff })
}

/** `destroy` alone would say INTERNAL_ERROR, or nothing if our side has ended. */
export function reset(stream: Http2Stream, code = constants.NGHTTP2_CONNECT_ERROR): void {
  if (stream.destroyed) return
  if (!stream.closed) stream.close(code)
  stream.destroy()
}

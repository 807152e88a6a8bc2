// An HTTP/2 stream with a TCP connection's manners. node:http2 ends the readable side of a stream that was cut off
// (RST_STREAM with CANCEL or NO_ERROR, a lost session) like one that ended in order: an application would take half an
// answer for a whole one. RFC 9113, section 8.5: END_STREAM is FIN, RST_STREAM with CONNECT_ERROR is RST.
import { constants, type Http2Stream } from 'node:http2'
import type { Connection } from './interface.ts'

export function asConnection(stream: Http2Stream): Connection {
  // Before every other listener: they find a cut-off stream destroyed, and `end` of a destroyed stream is no end.
  stream.prependListener('end', () => {
    if (isCutOff(stream)) stream.destroy()
  })
  return Object.assign(stream, { resetAndDestroy: () => reset(stream) })
}

/** `aborted` is set when the stream was closed while our own side was still open. */
const isCutOff = (stream: Http2Stream): boolean => stream.aborted || (stream.rstCode ?? 0) !== 0

/** `destroy` alone would say INTERNAL_ERROR, or nothing if our side has ended. */
export function reset(stream: Http2Stream, code = constants.NGHTTP2_CONNECT_ERROR): void {
  if (stream.destroyed) return
  if (!stream.closed) stream.close(code)
  stream.destroy()
}

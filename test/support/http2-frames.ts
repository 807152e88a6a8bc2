// What a FrameReader tells, as values that can be compared: pieces of one DATA frame are joined, however it was split.
import { type FrameHandler, FrameReader, type FrameReaderOptions } from '../../proxy/http2/frame-reader.ts'
import { CONNECTION_PREFACE, settingsFrame } from '../../proxy/http2/frames.ts'

export type FrameEvent = readonly [kind: string, ...values: (number | string | boolean)[]]

/** Bytes that end the opening of a client's connection. */
export const OPENING = Buffer.concat([CONNECTION_PREFACE, settingsFrame([])])

/** @throws Http2Error */
export function eventsOf(
  chunks: readonly Buffer[],
  options: Partial<FrameReaderOptions> = {},
  seen: FrameEvent[] = [],
): FrameEvent[] {
  let data: { streamId: number; hex: string; flowControlled: number } | undefined
  const flush = () => {
    if (data) seen.push(['data', data.streamId, data.hex, data.flowControlled])
    data = undefined
  }
  const tell = (...event: FrameEvent) => {
    flush()
    seen.push(event)
  }
  const reader = new FrameReader(
    {
      data: (streamId, piece, flowControlled, endStream) => {
        if (data?.streamId !== streamId) flush()
        data ??= { streamId, hex: '', flowControlled: 0 }
        data.hex += piece.toString('hex')
        data.flowControlled += flowControlled
        if (endStream) tell('end', streamId)
      },
      headers: (streamId, block, endStream) => tell('headers', streamId, block.toString('hex'), endStream),
      priority: (streamId, payload) => tell('priority', streamId, payload.toString('hex')),
      rstStream: (streamId, code) => tell('rstStream', streamId, code),
      settings: entries => tell('settings', ...entries.flat()),
      settingsAck: () => tell('settingsAck'),
      ping: (opaque, ack) => tell('ping', opaque.toString('hex'), ack),
      goaway: (last, code, debug) => tell('goaway', last, code, debug.toString('latin1')),
      windowUpdate: (streamId, increment) => tell('windowUpdate', streamId, increment),
      unknown: type => tell('unknown', type),
      streamError: error => tell('streamError', error.streamId ?? 0, error.code),
    },
    { from: 'client', maxFrameSize: 16_384, ...options },
  )
  for (const chunk of chunks) reader.push(chunk)
  flush()
  return seen
}

/** `bytes` in chunks that end at `ends`. */
export function split(bytes: Buffer, ends: readonly number[]): Buffer[] {
  const sorted = [...new Set(ends)].sort((a, b) => a - b).filter(end => end > 0 && end < bytes.length)
  return [0, ...sorted].map((from, index) => bytes.subarray(from, sorted[index] ?? bytes.length))
}

/** A handler that does nothing with any frame. */
export const ignoringFrames: FrameHandler = {
  data: () => {},
  headers: () => {},
  priority: () => {},
  rstStream: () => {},
  settings: () => {},
  settingsAck: () => {},
  ping: () => {},
  goaway: () => {},
  windowUpdate: () => {},
  unknown: () => {},
  streamError: () => {},
}

// Frames that only a test writes, and what a FrameReader tells, as values that can be compared: pieces of one DATA frame are
// joined, however it was split.
import { type FrameHandler, FrameReader, type FrameReaderOptions } from '../../proxy/http2/frame-reader.ts'
import {
  CONNECTION_PREFACE,
  FRAME_HEADER_BYTES,
  FrameType,
  settingsFrame,
  writeDataHeader,
  writeFrameHeader,
} from '../../proxy/http2/frames.ts'

export type FrameEvent = readonly [kind: string, ...values: (number | string | boolean)[]]

/** Bytes that end the opening of a client's connection. */
export const OPENING = Buffer.concat([CONNECTION_PREFACE, settingsFrame([])])

export function dataFrame(streamId: number, payload: Buffer, endStream: boolean): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length)
  payload.copy(frame, writeDataHeader(frame, 0, streamId, payload.length, endStream))
  return frame
}

/** `payload` is the 5 bytes of a PRIORITY frame. */
export function priorityFrame(streamId: number, payload: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + 5)
  payload.copy(frame, writeFrameHeader(frame, 0, 5, FrameType.priority, 0, streamId), 0, 5)
  return frame
}

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

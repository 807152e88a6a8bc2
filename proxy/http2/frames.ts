// HTTP/2's frames on the wire (RFC 9113, sections 4.1 and 6): their numbers, and functions that write them. A `write…`
// function writes at an offset and returns the offset behind; `…Frame` returns a Buffer of its own.

export const FrameType = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  rstStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const

export const Flag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const

/** RFC 9113, section 6.5.2; `enableConnectProtocol` is RFC 8441's. */
export const Setting = {
  headerTableSize: 0x1,
  enablePush: 0x2,
  maxConcurrentStreams: 0x3,
  initialWindowSize: 0x4,
  maxFrameSize: 0x5,
  maxHeaderListSize: 0x6,
  enableConnectProtocol: 0x8,
} as const

export type SettingEntry = readonly [id: number, value: number]

/** What a client sends before its first frame. */
export const CONNECTION_PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

export const FRAME_HEADER_BYTES = 9
export const MAX_WINDOW = 0x7fffffff
export const MAX_STREAM_ID = 0x7fffffff

/** What holds until a peer's SETTINGS say otherwise. */
export const INITIAL = { headerTableSize: 4096, window: 65_535, maxFrameSize: 16_384 } as const

export function writeFrameHeader(
  into: Buffer,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  into[at] = length >>> 16
  into[at + 1] = length >>> 8
  into[at + 2] = length
  into[at + 3] = type
  into[at + 4] = flags
  return writeUint32(into, at + 5, streamId)
}

/** The 9 bytes before `length` bytes of payload. */
export function writeDataHeader(
  into: Buffer,
  at: number,
  streamId: number,
  length: number,
  endStream: boolean,
): number {
  return writeFrameHeader(into, at, length, FrameType.data, endStream ? Flag.endStream : 0, streamId)
}

/** A header block of any size: HEADERS, and CONTINUATION for what is beyond the peer's `maxFrameSize`. */
export function headersFrames(
  streamId: number,
  block: Buffer,
  endStream: boolean,
  maxFrameSize: number = INITIAL.maxFrameSize,
): Buffer {
  const count = Math.max(1, Math.ceil(block.length / maxFrameSize))
  const frames = Buffer.allocUnsafe(count * FRAME_HEADER_BYTES + block.length)
  let at = 0
  for (let index = 0; index < count; index += 1) {
    const from = index * maxFrameSize
    const to = Math.min(block.length, from + maxFrameSize)
    const type = index === 0 ? FrameType.headers : FrameType.continuation
    const ends = index === 0 && endStream ? Flag.endStream : 0
    const last = index === count - 1 ? Flag.endHeaders : 0
    at = writeFrameHeader(frames, at, to - from, type, ends | last, streamId)
    at += block.copy(frames, at, from, to)
  }
  return frames
}

export function rstStreamFrame(streamId: number, code: number): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + 4)
  writeUint32(frame, writeFrameHeader(frame, 0, 4, FrameType.rstStream, 0, streamId), code)
  return frame
}

export function windowUpdateFrame(streamId: number, increment: number): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + 4)
  writeUint32(frame, writeFrameHeader(frame, 0, 4, FrameType.windowUpdate, 0, streamId), increment)
  return frame
}

/** `opaque` is 8 bytes. */
export function pingFrame(opaque: Buffer, ack: boolean): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + 8)
  const at = writeFrameHeader(frame, 0, 8, FrameType.ping, ack ? Flag.ack : 0, 0)
  opaque.copy(frame, at, 0, 8)
  return frame
}

export function settingsFrame(entries: readonly SettingEntry[]): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + 6 * entries.length)
  let at = writeFrameHeader(frame, 0, 6 * entries.length, FrameType.settings, 0, 0)
  for (const [id, value] of entries) at = frame.writeUInt32BE(value, frame.writeUInt16BE(id, at))
  return frame
}

export function settingsAckFrame(): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES)
  writeFrameHeader(frame, 0, 0, FrameType.settings, Flag.ack, 0)
  return frame
}

export function goawayFrame(lastStreamId: number, code: number, debug: Buffer = Buffer.alloc(0)): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + 8 + debug.length)
  let at = writeFrameHeader(frame, 0, 8 + debug.length, FrameType.goaway, 0, 0)
  at = writeUint32(frame, at, lastStreamId)
  at = writeUint32(frame, at, code)
  debug.copy(frame, at)
  return frame
}

function writeUint32(into: Buffer, at: number, value: number): number {
  into[at] = value >>> 24
  into[at + 1] = value >>> 16
  into[at + 2] = value >>> 8
  into[at + 3] = value
  return at + 4
}

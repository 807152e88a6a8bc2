// The errors of HTTP/2 (RFC 9113, sections 5.4 and 7). A connection error ends the connection with GOAWAY; a stream error
// names its stream and ends only that, with RST_STREAM.

export const ErrorCode = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const

export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode]

export class Http2Error extends Error {
  readonly code: ErrorCode
  /** Undefined: the whole connection is at fault. */
  readonly streamId: number | undefined

  constructor(code: ErrorCode, message: string, streamId?: number) {
    super(message)
    this.name = 'Http2Error'
    this.code = code
    this.streamId = streamId
  }
}

// What is wrong with a frame whatever has happened on the connection before (RFC 9113, section 6). Nobody here ever asks
// for server push, so that PUSH_PROMISE, and any stream with an even number, is an error in both directions.
import { ErrorCode, Http2Error } from './errors.ts'
import { Flag, FrameType, MAX_WINDOW, Setting, type SettingEntry } from './frames.ts'

/** @throws Http2Error */
export function checkStreamId(type: number, streamId: number): void {
  switch (type) {
    case FrameType.settings:
    case FrameType.ping:
    case FrameType.goaway:
      if (streamId !== 0) throw protocolError(`${nameOf(type)} on stream ${streamId}`)
      return
    case FrameType.windowUpdate:
      if (streamId !== 0 && streamId % 2 === 0) throw protocolError(`${nameOf(type)} on stream ${streamId}`)
      return
    case FrameType.priority:
      if (streamId === 0) throw protocolError('PRIORITY on stream 0')
      return
    case FrameType.pushPromise:
      throw protocolError('PUSH_PROMISE, which is disabled')
    case FrameType.data:
    case FrameType.headers:
    case FrameType.rstStream:
    case FrameType.continuation:
      if (streamId % 2 === 0) throw protocolError(`${nameOf(type)} on stream ${streamId}`)
  }
}

/** @throws Http2Error */
export function checkLength(type: number, flags: number, length: number): void {
  if (!fits(type, flags, length))
    throw new Http2Error(ErrorCode.FRAME_SIZE_ERROR, `${nameOf(type)} of ${length} bytes`)
}

function fits(type: number, flags: number, length: number): boolean {
  switch (type) {
    case FrameType.data:
    case FrameType.headers:
      return length > 0 || (flags & Flag.padded) === 0
    case FrameType.rstStream:
    case FrameType.windowUpdate:
      return length === 4
    case FrameType.settings:
      return (flags & Flag.ack) !== 0 ? length === 0 : length % 6 === 0
    case FrameType.ping:
      return length === 8
    case FrameType.goaway:
      return length >= 8
    default:
      return true
  }
}

/** A window that changes changes for every stream: a frame full of such changes is work for seconds (CVE-2020-11080). */
const MAX_SETTINGS = 32

/** @throws Http2Error */
export function checkSettings(payload: Buffer, from: 'client' | 'server'): SettingEntry[] {
  if (payload.length > 6 * MAX_SETTINGS)
    throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, `SETTINGS of ${payload.length} bytes`)
  const entries: SettingEntry[] = []
  for (let at = 0; at < payload.length; at += 6) {
    const id = payload.readUInt16BE(at)
    const value = payload.readUInt32BE(at + 2)
    checkSetting(id, value, from)
    entries.push([id, value])
  }
  return entries
}

function checkSetting(id: number, value: number, from: 'client' | 'server'): void {
  switch (id) {
    case Setting.enablePush:
      if (value > (from === 'client' ? 1 : 0)) throw protocolError(`ENABLE_PUSH of ${value}`)
      return
    case Setting.enableConnectProtocol:
      if (value > 1) throw protocolError(`ENABLE_CONNECT_PROTOCOL of ${value}`)
      return
    case Setting.maxFrameSize:
      if (value < 16_384 || value > 16_777_215) throw protocolError(`MAX_FRAME_SIZE of ${value}`)
      return
    case Setting.initialWindowSize:
      if (value > MAX_WINDOW)
        throw new Http2Error(ErrorCode.FLOW_CONTROL_ERROR, `INITIAL_WINDOW_SIZE of ${value}`)
  }
}

const NAMES = new Map<number, string>(Object.entries(FrameType).map(([name, type]) => [type, name]))

const nameOf = (type: number): string => NAMES.get(type) ?? `frame type ${type}`

const protocolError = (why: string) => new Http2Error(ErrorCode.PROTOCOL_ERROR, why)

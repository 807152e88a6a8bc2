// Writing to a socket's handle, as socket.write does at last, past the Writable before it: whose states, ticks and copies
// cost more than the rest of a small write (docs/adr/0006). Who writes has one write in flight, and gathers meanwhile.
// This file alone knows how a socket writes to its handle; that may change with a Node release, which a test notices.
import type { Duplex } from 'node:stream'
import { getSystemErrorName } from 'node:util'

export type Writer = {
  /** Connected, its handshake is done, and nobody else writes to it. */
  readonly socket: Duplex
  /** The write that was in flight is over; never called during `writeTo`. */
  onWritten(): void
}

/** The memory of all writes that the kernel has not taken yet. */
export const inFlight = { bytes: 0 }

/**
 * True: it is done, and `chunk` is the caller's again. False: it is in flight, and `onWritten` says when it is not; until
 * then `chunk` must stay as it is, and nothing else may be written. What fails destroys the socket, whose 'close' tells.
 */
export function writeTo(writer: Writer, chunk: Buffer): boolean {
  if (writer.socket.destroyed) return true
  const handle: unknown = Reflect.get(writer.socket, '_handle')
  if (NATIVE && isWritable(handle)) return writeNative(NATIVE, handle, writer, chunk)
  const { byteLength } = chunk.buffer
  inFlight.bytes += byteLength
  writer.socket.write(chunk, () => {
    inFlight.bytes -= byteLength
    writer.onWritten()
  })
  return false
}

function writeNative(native: Native, handle: Writable, writer: Writer, chunk: Buffer): boolean {
  const request = spare ?? new native.WriteWrap()
  request.oncomplete = onComplete
  request.writer = writer
  const error = handle.writeBuffer(request, chunk)
  if (error === 0 && native.streamBaseState[native.kLastWriteWasAsync]) {
    request.chunk = chunk
    inFlight.bytes += chunk.buffer.byteLength
    spare = undefined
    return false
  }
  spare = request
  if (error !== 0) fail(writer, error)
  return true
}

function onComplete(this: WriteRequest, status: number): void {
  const { writer, chunk } = this
  if (!writer || !chunk) return
  inFlight.bytes -= chunk.buffer.byteLength
  if (status !== 0) fail(writer, status)
  writer.onWritten()
}

const fail = ({ socket }: Writer, status: number) =>
  socket.destroy(new Error(`write: ${getSystemErrorName(status)}`))

type WriteRequest = {
  oncomplete?: (this: WriteRequest, status: number) => void
  writer?: Writer
  /** Keeps the memory while the kernel may read it. */
  chunk?: Buffer
}

/** Not used up by a write that was done at once, which most are. */
let spare: WriteRequest | undefined

type Writable = { writeBuffer(request: WriteRequest, chunk: Buffer): number }

const isWritable = (handle: unknown): handle is Writable =>
  typeof handle === 'object' && handle !== null && 'writeBuffer' in handle

type Native = {
  readonly WriteWrap: new () => WriteRequest
  readonly streamBaseState: Int32Array
  readonly kLastWriteWasAsync: number
}

const isNative = (found: unknown): found is Native =>
  typeof found === 'object' &&
  found !== null &&
  typeof Reflect.get(found, 'WriteWrap') === 'function' &&
  Reflect.get(found, 'streamBaseState') instanceof Int32Array &&
  typeof Reflect.get(found, 'kLastWriteWasAsync') === 'number'

const NATIVE = findNative()

function findNative(): Native | undefined {
  const binding: unknown = Reflect.get(process, 'binding')
  const found: unknown = typeof binding === 'function' ? binding.call(process, 'stream_wrap') : undefined
  return isNative(found) ? found : undefined
}

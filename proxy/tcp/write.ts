// Writing to a socket's handle, as socket.write does at last, past the Writable before it: whose states, ticks and copies
// cost more than the rest of a small write (docs/adr/0006). Who writes has one write in flight, and gathers meanwhile.
import type { Duplex } from 'node:stream'
import { errorOf, handleOf, native, type Request, type StreamHandle } from './native.ts'

export type Writer = {
  /** The write that was in flight is over; never called during the write. */
  onWritten(): void
  /** It failed, and so will every other. May be called during the write; `onWritten` follows if it was in flight. */
  onFailed(error: Error): void
}

/** Of a socket that is connected, whose handshake is done, and to which nobody else writes. */
export type SocketWriter = Writer & { readonly socket: Duplex }

/** The memory of all writes that the kernel has not taken yet. */
export const inFlight = { bytes: 0 }

/**
 * True: it is done, and `chunk` is the caller's again. False: it is in flight, and `onWritten` says when it is not; until
 * then `chunk` must stay as it is, and nothing else may be written.
 */
export function writeToHandle(handle: StreamHandle, writer: Writer, chunk: Buffer): boolean {
  const { WriteWrap, streamBaseState, kLastWriteWasAsync } = native()
  const request = spare ?? new WriteWrap<Writer>()
  request.oncomplete = onComplete
  request.owner = writer
  const error = handle.writeBuffer(request, chunk)
  if (error === 0 && streamBaseState[kLastWriteWasAsync]) {
    request.chunk = chunk
    inFlight.bytes += chunk.buffer.byteLength
    spare = undefined
    return false
  }
  spare = request
  if (error !== 0) writer.onFailed(errorOf('write', error))
  return true
}

/** The same for a socket of net or tls; for one without a handle, as a test's, through its Writable. */
export function writeToSocket(writer: SocketWriter, chunk: Buffer): boolean {
  const { socket } = writer
  if (socket.destroyed) return true
  const handle = handleOf(socket)
  if (isWritable(handle)) return writeToHandle(handle, writer, chunk)
  const { byteLength } = chunk.buffer
  inFlight.bytes += byteLength
  socket.write(chunk, () => {
    inFlight.bytes -= byteLength
    writer.onWritten()
  })
  return false
}

/** Not used up by a write that was done at once, which most are. */
let spare: Request<Writer> | undefined

function onComplete(this: Request<Writer>, status: number): void {
  const { owner, chunk } = this
  if (!owner || !chunk) return
  inFlight.bytes -= chunk.buffer.byteLength
  if (status !== 0) owner.onFailed(errorOf('write', status))
  owner.onWritten()
}

const isWritable = (handle: object | undefined): handle is StreamHandle =>
  handle !== undefined && 'writeBuffer' in handle

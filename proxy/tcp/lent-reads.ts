// Reading into one buffer that all sockets share (net's `onread`). Node otherwise makes a buffer of 64 KiB for every read,
// however little it brings, and one for every TLS record, and has to collect them: most of what a lone request costs, its
// slowest answers, and a third of a bulk transfer.
// This file alone knows how a socket keeps its `onread`; that may change with a Node release, which a test notices.
import { Socket } from 'node:net'
import { handleOf } from './native.ts'

/** Overwritten by the next read, of whatever socket. */
export const sharedBuffer = Buffer.allocUnsafeSlow(64 * 1024)

/** The reads of one socket, which then emits no 'data'. */
export class LentReads {
  /** For net.connect and tls.connect. */
  readonly onread = {
    buffer: sharedBuffer,
    callback: (bytes: number): boolean => {
      this.#reader(sharedBuffer.subarray(0, bytes))
      return true
    },
  }
  #reader: (chunk: Buffer) => void = () => {}

  /** `reader` is lent each chunk: it is overwritten by the next read, of whatever socket. To be called before `resume`. */
  deliverTo(reader: (chunk: Buffer) => void): void {
    this.#reader = reader
  }

  /**
   * Those of a socket that was accepted, for which net has no such option: it is set as net.connect sets it. Undefined
   * where that cannot be done, or something has been read already: the socket goes on as any other.
   */
  static of(socket: Socket): LentReads | undefined {
    const handle = handleOf(socket)
    if (!BUFFER || !CALLBACK || !isReadable(handle) || socket.readableLength > 0) return undefined
    const reads = new LentReads()
    const { buffer, callback } = reads.onread
    handle.useUserBuffer(buffer)
    Object.assign(socket, { [BUFFER]: buffer, [CALLBACK]: callback })
    return reads
  }
}

const symbols = Object.getOwnPropertySymbols(new Socket())
const symbolOf = (description: string) => symbols.find(symbol => symbol.description === description)
const BUFFER = symbolOf('kBuffer')
const CALLBACK = symbolOf('kBufferCb')

type Readable = { useUserBuffer(buffer: Buffer): void }

const isReadable = (handle: object | undefined): handle is Readable =>
  handle !== undefined && 'useUserBuffer' in handle

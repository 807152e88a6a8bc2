// A TCP socket as a ByteStream: of the application, or of a destination without a sidecar.
import type { Socket } from 'node:net'
import type { ByteStream, Sink } from '../tunnel/byte-stream.ts'

/** Bulk is gathered for one turn of the event loop: a system call and a wake-up each, not one for each TLS record. */
const GATHERED_BYTES = 4 * 1024
const GATHERED_AT_MOST = 128 * 1024
/** Below this share of its memory a chunk that must wait is copied: it may be a few bytes of a whole TLS record. */
const WASTE = 4

/** `socket` must be half-open (allowHalfOpen), and is not used otherwise any more. */
export class SocketStream implements ByteStream {
  readonly #socket: Socket
  #corked = false

  constructor(socket: Socket) {
    this.#socket = socket.on('error', () => {})
  }

  open(sink: Sink): void {
    const socket = this.#socket
    if (socket.closed) {
      process.nextTick(() => sink.closed('reset'))
      return
    }
    socket.on('data', (chunk: Buffer) => sink.data(chunk))
    socket.once('end', () => sink.end())
    socket.on('drain', () => sink.drain())
    socket.once('close', hadError => {
      const ended = !hadError && socket.readableEnded && socket.writableFinished
      sink.closed(ended ? 'ended' : 'reset')
    })
    socket.resume()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  write(chunk: Buffer): boolean {
    const socket = this.#socket
    if (chunk.length >= GATHERED_BYTES && !this.#corked) this.#gather()
    const waits = socket.writableLength > 0 && chunk.length * WASTE < chunk.buffer.byteLength
    const accepted = socket.write(waits ? Buffer.from(chunk) : chunk)
    if (this.#corked && socket.writableLength >= GATHERED_AT_MOST) this.#uncork()
    return accepted
  }

  end(): void {
    this.#socket.end()
  }

  reset(): void {
    this.#socket.resetAndDestroy()
  }

  #gather(): void {
    this.#corked = true
    this.#socket.cork()
    setImmediate(uncork, this)
  }

  #uncork(): void {
    if (!this.#corked) return
    this.#corked = false
    this.#socket.uncork()
  }

  static uncork(stream: SocketStream): void {
    stream.#uncork()
  }
}

const { uncork } = SocketStream

// A TLS connection of Node's as a ByteStream: where TLS is spoken with somebody who knows of no tunnel. Its bytes are
// copied once more than a tunnel's, since node:stream keeps what it cannot write at once.
import type { TLSSocket } from 'node:tls'
import type { ByteStream, Sink } from '../tunnel/byte-stream.ts'

export type TlsStreamOptions = {
  /** Its handshake is over, it was made with `allowHalfOpen`, and nobody else uses it. */
  readonly socket: TLSSocket
  /** Cuts off what carries it (RST): a FIN alone would look like an end. */
  cut(): void
  /** Why it is about to be cut off, from the other side or by a failure. */
  onError?(error: Error): void
}

export class TlsStream implements ByteStream {
  readonly #socket: TLSSocket
  readonly #cut: () => void
  #sink: Sink | undefined
  #isReset = false
  #closed: 'ended' | 'reset' | undefined

  constructor({ socket, cut, onError }: TlsStreamOptions) {
    this.#socket = socket
    this.#cut = cut
    socket.on('error', error => {
      this.#isReset = true
      onError?.(error)
    })
    socket.once('close', () => this.#close())
  }

  open(sink: Sink): void {
    this.#sink = sink
    if (this.#closed) {
      process.nextTick(() => this.#tell())
      return
    }
    this.#socket.on('data', (chunk: Buffer) => sink.data(chunk))
    this.#socket.on('end', () => sink.end())
    this.#socket.on('drain', () => sink.drain())
    this.#socket.resume()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  write(chunk: Buffer): boolean {
    if (this.#isReset || !this.#socket.writable) return true
    return this.#socket.write(Buffer.from(chunk))
  }

  /** close_notify, then FIN. */
  end(): void {
    if (!this.#isReset) this.#socket.end()
  }

  reset(): void {
    if (this.#isReset || this.#closed) return
    this.#isReset = true
    this.#cut()
    this.#socket.destroy()
  }

  #close(): void {
    const { readableEnded, writableFinished } = this.#socket
    this.#closed = !this.#isReset && readableEnded && writableFinished ? 'ended' : 'reset'
    this.#tell()
  }

  #tell(): void {
    if (this.#closed) this.#sink?.closed(this.#closed)
  }
}

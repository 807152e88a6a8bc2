// A ByteStream as a node:stream, for tests that read, write and pipe: an end is 'end', a cut is 'close' without it.
import { Duplex } from 'node:stream'
import type { ByteStream } from '../../proxy/tunnel/byte-stream.ts'
import type { TunnelRequest } from '../../proxy/tunnel/interface.ts'

export class DuplexOf extends Duplex {
  readonly #stream: ByteStream
  #written: (() => void) | undefined
  #over = false

  constructor(stream: ByteStream) {
    super({ autoDestroy: false })
    this.#stream = stream
    stream.open({
      data: chunk => {
        if (!this.push(chunk)) stream.pause()
      },
      end: () => this.push(null),
      drain: () => this.#drained(),
      closed: how => {
        this.#over = true
        // What was delivered in order is still to be read.
        if (how === 'reset' || this.readableEnded) this.destroy()
        else this.once('end', () => this.destroy())
      },
    })
  }

  resetAndDestroy(): void {
    this.#stream.reset()
  }

  override _read(): void {
    this.#stream.resume()
  }

  override _write(chunk: Buffer, _encoding: string, written: () => void): void {
    if (this.#stream.write(chunk)) written()
    else this.#written = written
  }

  override _final(ended: () => void): void {
    this.#stream.end()
    ended()
  }

  override _destroy(error: Error | null, destroyed: (error: Error | null) => void): void {
    if (!this.#over) this.#stream.reset()
    destroyed(error)
  }

  #drained(): void {
    const written = this.#written
    this.#written = undefined
    written?.()
  }
}

export type DuplexRequest = Omit<TunnelRequest, 'accept'> & { accept(): DuplexOf }

/** A tunnel's `onRequest` for a test's own one. */
export const withDuplex = (handle: (request: DuplexRequest) => void) => (request: TunnelRequest) =>
  handle({ ...request, accept: () => new DuplexOf(request.accept()) })

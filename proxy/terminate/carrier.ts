// What node:tls is given to speak TLS over: a byte stream as a Duplex. Node itself does not tell an end that was said
// (close_notify) from a connection that was cut; who sees both layers can.
import { Duplex } from 'node:stream'
import type { ByteStream } from '../tunnel/byte-stream.ts'

/** As LINGER_MS of the tunnel: to read the last word in. */
const LINGER_MS = 1_000

export class Carrier extends Duplex {
  readonly #stream: ByteStream
  #written: (() => void) | undefined
  #ended: (() => void) | undefined
  #isOver = false
  #linger: NodeJS.Timeout | undefined

  /** `onEnd` is called when the other side's FIN has been reached, and before TLS is told. */
  constructor(stream: ByteStream, onEnd: () => void) {
    super()
    this.#stream = stream
    this.once('end', onEnd)
    stream.open({
      data: chunk => {
        if (!this.destroyed && !this.push(chunk)) stream.pause()
      },
      end: () => this.push(null),
      drain: () => settle(this.#written),
      closed: how => {
        this.#isOver = true
        clearTimeout(this.#linger)
        if (how === 'ended') settle(this.#ended)
        else this.destroy(new Error('reset by the other side'))
      },
    })
  }

  override _read(): void {
    this.#stream.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.#stream.write(chunk)) done()
    else this.#written = done
  }

  /** Done once both directions are over: whoever is done is destroyed, and what waits to be sent with it. */
  override _final(done: () => void): void {
    this.#ended = done
    this.#stream.end()
  }

  /** What was written last may be the alert that says why. */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#stream.resume()
    this.#stream.end()
    this.#linger = setTimeout(() => this.#stream.reset(), LINGER_MS)
    if (this.#isOver) clearTimeout(this.#linger)
    done(error)
  }
}

const settle = (callback: (() => void) | undefined) => callback?.()

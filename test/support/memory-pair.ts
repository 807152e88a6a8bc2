// Two ends of a connection in memory. Like TLS, and unlike duplexPair of node:stream, it has copied what it was given when
// a write is done: who writes may use the memory again.
import { Duplex } from 'node:stream'

export class MemoryEnd extends Duplex {
  /** Passes bytes on, perhaps other ones. */
  through: (chunk: Buffer) => Buffer[] = chunk => [chunk]
  /** While set, it takes nothing: a full network. */
  stuck = false
  #other: MemoryEnd | undefined
  #waiting: (() => void) | undefined

  constructor() {
    super({ allowHalfOpen: false })
  }

  joinedTo(other: MemoryEnd): void {
    this.#other = other
  }

  unstick(): void {
    this.stuck = false
    this.#waiting?.()
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    const pass = () => {
      this.#waiting = undefined
      const other = this.#other
      if (other && !other.destroyed && !other.readableEnded)
        for (const piece of this.through(Buffer.from(chunk))) other.push(piece)
      setImmediate(done)
    }
    if (this.stuck) this.#waiting = pass
    else pass()
  }

  override _final(done: () => void): void {
    const other = this.#other
    if (other && !other.destroyed) other.push(null)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const other = this.#other
    if (other && !other.destroyed) setImmediate(() => other.destroy())
    done(error)
  }
}

export function memoryPair(): [MemoryEnd, MemoryEnd] {
  const ends: [MemoryEnd, MemoryEnd] = [new MemoryEnd(), new MemoryEnd()]
  ends[0].joinedTo(ends[1])
  ends[1].joinedTo(ends[0])
  return ends
}

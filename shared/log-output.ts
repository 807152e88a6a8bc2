// Where log lines leave the process. Every connection has a line, and a write of its own costs more than making it: lines
// are gathered, and written off the main thread, so that a log reader that stalls costs lines and no connection. After a
// quiet time a line is written at the end of its turn of the event loop, then together with those of the next 100 ms.
import { write, writeSync } from 'node:fs'
import { printableJson } from './printable.ts'

export type LogOutputOptions = {
  readonly fd: number
  readonly intervalMs?: number
  /** Characters that wait for the reader; further lines are dropped and counted. */
  readonly capacity?: number
}

const INTERVAL_MS = 100
const CAPACITY = 2 ** 20
/** Characters that are written before the interval is over. */
const FULL = 2 ** 16
const RETRY_MS = 10
/** How long the last lines of a process wait for their reader. */
const LAST_CHANCE_MS = 1_000

export class LogOutput {
  /** Told how many lines were dropped, once there is room for one that says so. */
  onLost: (lines: number) => void = () => {}
  readonly #fd: number
  readonly #intervalMs: number
  readonly #capacity: number
  #lines = ''
  #lost = 0
  /** What of it is not written yet is in flight. */
  #chunk: Buffer | undefined
  #timer: NodeJS.Timeout | undefined
  #flushed: (() => void)[] = []

  constructor({ fd, intervalMs = INTERVAL_MS, capacity = CAPACITY }: LogOutputOptions) {
    this.#fd = fd
    this.#intervalMs = intervalMs
    this.#capacity = capacity
  }

  /** A line with its end. */
  write(line: string): void {
    if (this.#lines.length + line.length > this.#capacity) {
      this.#lost += 1
      return
    }
    this.#lines += line
    if (this.#lines.length >= FULL) this.#send()
    else if (!this.#timer) {
      setImmediate(send, this)
      this.#wait()
    }
  }

  /** Calls back when all that was written until now has left the process, or cannot. */
  flush(done: () => void = () => {}): void {
    this.#flushed.push(done)
    this.#send()
  }

  /** For the end of the process: behind what is in flight, which its thread still writes. */
  flushSync(): void {
    let rest = bytesOf(this.#lines)
    this.#lines = ''
    const deadline = performance.now() + LAST_CHANCE_MS
    while (rest.length > 0 && performance.now() < deadline) {
      try {
        rest = rest.subarray(writeSync(this.#fd, rest))
      } catch (thrown) {
        if (!isBusy(thrown)) return
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS)
      }
    }
  }

  /** The quiet time begins when an interval brought nothing. */
  #wait(): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      if (this.#lines === '' && !this.#chunk) return
      this.#send()
      this.#wait()
    }, this.#intervalMs).unref()
  }

  #send(): void {
    if (!this.#chunk) this.#tellLost()
    if (this.#chunk) return
    if (this.#lines === '') {
      this.#tellFlushed()
      return
    }
    this.#chunk = bytesOf(this.#lines)
    this.#lines = ''
    this.#writeOn()
  }

  #writeOn(): void {
    if (!this.#chunk) return
    write(this.#fd, this.#chunk, (error, written) => {
      if (isBusy(error)) {
        setTimeout(() => this.#writeOn(), RETRY_MS)
        return
      }
      // Nobody reads any more: there is nobody to tell, either.
      const rest = error ? undefined : this.#chunk?.subarray(written)
      this.#chunk = rest && rest.length > 0 ? rest : undefined
      if (this.#chunk) this.#writeOn()
      else if (this.#flushed.length > 0 || this.#lines.length >= FULL) this.#send()
    })
  }

  #tellLost(): void {
    const lost = this.#lost
    this.#lost = 0
    if (lost > 0) this.onLost(lost)
  }

  #tellFlushed(): void {
    const flushed = this.#flushed
    this.#flushed = []
    for (const done of flushed) done()
  }

  static send(output: LogOutput): void {
    output.#send()
  }
}

const { send } = LogOutput

/** What peers and callers wrote is read on terminals. Lines of ASCII, as nearly all are, cost nothing more. */
function bytesOf(lines: string): Buffer {
  const bytes = Buffer.from(lines)
  return bytes.length === lines.length ? bytes : Buffer.from(printableJson(lines))
}

/** A pipe that is full, and whose other end made it non-blocking. */
const isBusy = (thrown: unknown): boolean =>
  thrown instanceof Error && 'code' in thrown && thrown.code === 'EAGAIN'

let standard: LogOutput | undefined

/** Of the whole process; what waits is written when it exits, whatever for. */
export function standardOutput(): LogOutput {
  if (standard) return standard
  const output = new LogOutput({ fd: 1 })
  process.on('exit', () => output.flushSync())
  standard = output
  return output
}

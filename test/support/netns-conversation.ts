// One end of a TCP connection that follows a script, and tells afterwards what it saw. A script says what an application
// does and nothing of what is between it and its peer: what it sees through two sidecars can be held against what it
// sees over a plain TCP connection.
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { type SeededBytes, seededBytes } from './seeded-bytes.ts'

export type Step =
  /** Sends the next bytes of our seeded stream, at the speed of the receiver. */
  | { readonly do: 'send'; readonly bytes: number; readonly chunk?: number }
  /** Waits until so many further bytes have come. */
  | { readonly do: 'receive'; readonly bytes: number }
  /** Waits for the other side's orderly end. */
  | { readonly do: 'receiveEnd' }
  /** Waits until the connection is cut off, which an orderly end is not. Who has heard that end writes on to notice. */
  | { readonly do: 'receiveReset' }
  | { readonly do: 'end' }
  | { readonly do: 'reset' }
  | { readonly do: 'wait'; readonly ms: number }
  /** Waits until the test opens the gate of this name. */
  | { readonly do: 'gate'; readonly name: string }
  /** Reads no more; what comes waits in the kernel. */
  | { readonly do: 'stall' }
  | { readonly do: 'resume' }

export type Script = readonly Step[]

export type Transcript = {
  readonly id: number
  /** Steps that were done, of those that there were. */
  readonly done: number
  readonly steps: number
  /** Taken by the kernel. */
  readonly sent: number
  readonly received: number
  /** Where what was received is not what the other side sends. */
  readonly wrongAt?: number
  /** The other side ended in order. */
  readonly ended: boolean
  /** It was cut off where the script expects it. */
  readonly reset: boolean
  /** What the script does not expect: ECONNRESET, a close, another end … */
  readonly error?: string
  readonly connectMs: number
  readonly ms: number
}

/** Of a connection that lives. */
export type Progress = Pick<Transcript, 'sent' | 'received' | 'done'>

export type End = 'client' | 'server'

export type Conversation = {
  readonly progress: () => Progress
  /** Resolves when the connection is closed. Never rejects. */
  readonly transcript: Promise<Transcript>
}

export type ConversationOptions = {
  readonly end: End
  /** Made from the id that the client introduced itself by, or of 0 where it did not. */
  readonly script: (id: number) => Script
  /** The client sends this first, in four bytes. */
  readonly introduce?: number
  /** The server reads those. */
  readonly meet?: boolean
  readonly gate: (name: string) => Promise<void>
  /** When a script that is not done is given up. */
  readonly timeoutMs?: number
}

const CHUNK_BYTES = 64 * 1024
const ID_BYTES = 4
const POKE_MS = 5
const TIMEOUT_MS = 60_000
const CUT_OFF = ['ECONNRESET', 'EPIPE']

/** `socket` is half-open, and connecting or connected. */
export function converse(socket: Socket, options: ConversationOptions): Conversation {
  const end = new ConversationEnd(socket, options)
  return { progress: () => end.progress(), transcript: end.run() }
}

class ConversationEnd {
  readonly #socket: Socket
  readonly #options: ConversationOptions
  readonly #started = performance.now()
  readonly #closed = Promise.withResolvers<void>()
  #id = 0
  #ours: SeededBytes = seededBytes('')
  #theirs: SeededBytes | undefined
  #early: Buffer[] = []
  #connectMs = 0
  #done = 0
  #steps = 0
  #sent = 0
  #received = 0
  #awaited = 0
  #wrongAt: number | undefined
  #ended = false
  #endHeard = false
  #reset = false
  #error: string | undefined
  #wake = () => {}

  constructor(socket: Socket, options: ConversationOptions) {
    this.#socket = socket
    this.#options = options
    socket.on('data', (chunk: Buffer) => this.#take(chunk))
    socket.on('end', () => {
      this.#ended = true
      this.#wake()
    })
    socket.on('error', error => {
      this.#error = 'code' in error ? String(error.code) : error.message
    })
    socket.once('connect', () => {
      this.#connectMs = performance.now() - this.#started
    })
    socket.once('close', () => {
      this.#closed.resolve()
      this.#wake()
    })
  }

  progress(): Progress {
    return { sent: this.#sent, received: this.#received, done: this.#done }
  }

  async run(): Promise<Transcript> {
    const late = () => this.#socket.destroy(new Error('timeout'))
    const timer = setTimeout(late, this.#options.timeoutMs ?? TIMEOUT_MS)
    try {
      const script = await this.#begin()
      this.#steps = script.length
      for (const step of script) {
        await this.#perform(step)
        this.#done += 1
      }
    } catch (thrown) {
      this.#error ??= thrown instanceof Error ? thrown.message : String(thrown)
      this.#socket.destroy()
    }
    await this.#closed.promise
    clearTimeout(timer)
    return {
      id: this.#id,
      steps: this.#steps,
      ...this.progress(),
      ...(this.#wrongAt !== undefined && { wrongAt: this.#wrongAt }),
      ended: this.#ended,
      reset: this.#reset,
      ...(this.#error !== undefined && { error: this.#error }),
      connectMs: this.#connectMs,
      ms: performance.now() - this.#started,
    }
  }

  async #begin(): Promise<Script> {
    const { introduce, meet = false, end, script } = this.#options
    if (introduce !== undefined) {
      this.#id = introduce
      const bytes = Buffer.alloc(ID_BYTES)
      bytes.writeUInt32BE(introduce)
      this.#socket.write(bytes)
    }
    if (meet) {
      await this.#until(() => this.#early.reduce((sum, { length }) => sum + length, 0) >= ID_BYTES)
      const early = Buffer.concat(this.#early)
      this.#id = early.readUInt32BE()
      this.#early = [early.subarray(ID_BYTES)]
    }
    this.#ours = seededBytes(`${end} ${this.#id}`)
    this.#theirs = seededBytes(`${end === 'client' ? 'server' : 'client'} ${this.#id}`)
    for (const chunk of this.#early) this.#take(chunk)
    return script(this.#id)
  }

  #take(chunk: Buffer): void {
    if (!this.#theirs) {
      this.#early.push(chunk)
    } else {
      const expected = this.#theirs.take(chunk.length)
      if (this.#wrongAt === undefined && !expected.equals(chunk)) {
        this.#wrongAt = this.#received + expected.findIndex((byte, index) => byte !== chunk[index])
      }
      this.#received += chunk.length
    }
    this.#wake()
  }

  async #perform(step: Step): Promise<void> {
    switch (step.do) {
      case 'send':
        return this.#send(step.bytes, step.chunk ?? CHUNK_BYTES)
      case 'receive':
        this.#awaited += step.bytes
        return this.#until(() => this.#received >= this.#awaited)
      case 'receiveEnd':
        this.#endHeard = true
        return this.#until(() => this.#ended)
      case 'receiveReset':
        return this.#receiveReset()
      case 'end':
        this.#socket.end()
        return
      case 'reset':
        this.#socket.resetAndDestroy()
        return
      case 'wait':
        return void (await delay(step.ms))
      case 'gate':
        return this.#options.gate(step.name)
      case 'stall':
        this.#socket.pause()
        return
      case 'resume':
        this.#socket.resume()
        return
    }
  }

  async #send(bytes: number, chunkBytes: number): Promise<void> {
    for (let left = bytes; left > 0; left -= chunkBytes) {
      if (this.#socket.destroyed) throw new Error('closed')
      const chunk = this.#ours.take(Math.min(left, chunkBytes))
      const flushed = this.#socket.write(chunk, error => {
        if (!error) this.#sent += chunk.length
        this.#wake()
      })
      if (!flushed) await this.#until(() => !this.#socket.writableNeedDrain)
    }
    await this.#until(() => this.#socket.writableLength === 0)
  }

  async #receiveReset(): Promise<void> {
    const poke = this.#endHeard ? setInterval(() => this.#socket.write('?'), POKE_MS) : undefined
    await this.#until(() => this.#socket.closed || (this.#ended && !this.#endHeard))
    clearInterval(poke)
    if (!CUT_OFF.includes(this.#error ?? '')) throw new Error(this.#error ?? 'ended in order, not by a reset')
    this.#error = undefined
    this.#reset = true
  }

  /** Rejects when the connection closes before. */
  async #until(reached: () => boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#wake = () => {
      if (reached()) resolve()
      else if (this.#socket.closed) reject(new Error('closed'))
    }
    this.#wake()
    return promise
  }
}

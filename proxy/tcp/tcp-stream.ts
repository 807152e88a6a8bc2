// A TCP connection as a ByteStream, on Node's own handle: of an application, or of a destination without a sidecar. A
// net.Socket between the two would cost a new connection more than all that the proxy does with it (docs/adr/0006).
import { canonicalAddress } from '../../shared/addresses.ts'
import { BLOCK_BYTES, giveBlock, takeBlock } from '../tunnel/blocks.ts'
import type { ByteStream, Sink } from '../tunnel/byte-stream.ts'
import { sharedBuffer } from './lent-reads.ts'
import { native, type Request, type SocketName, type TcpHandle } from './native.ts'
import { type Writer, writeToHandle } from './write.ts'

export type Endpoint = {
  /** Canonical. */
  readonly address: string
  readonly port: number
}

/** From so many bytes on a chunk is bulk, which is gathered for a turn: one system call, and one wake-up of the reader. */
const BULK_BYTES = 4 * 1024
const KEEP_ALIVE_SECONDS = 60

/** Where a small write is copied to; it is free again once the kernel has taken it, mostly at once. */
let small = Buffer.allocUnsafeSlow(BULK_BYTES)

/** Errors of a write by which the other side has closed: it may have answered before, as one that is sent too much. */
const GONE: ReadonlySet<string> = new Set(['EPIPE', 'ECONNRESET'])

/** libuv's UV_EOF. */
const END_OF_FILE = -4095

export class TcpStream implements ByteStream, Writer {
  readonly #handle: TcpHandle<TcpStream>
  /** Not a public field: V8 keeps what each of them was set to, and all that hangs on it, until a full collection. */
  #whenGone: (() => void) | undefined
  /** Gathered: bulk, what came behind it, and what comes while a write is in flight; full blocks wait before it. */
  #block: Buffer | undefined
  #at = 0
  #full: Buffer[] = []
  #scheduled = false
  /** The memory of the write that is in flight. */
  #writing: Buffer | undefined
  #isSlow = false
  #sink: Sink | undefined
  #isReading = false
  #isPaused = false
  /** The other side's FIN has been read, and told. */
  #hasEnded = false
  /** Ours: asked for, on its way (SHUT_WR is), or with the kernel. */
  #end: 'not' | 'asked' | 'sending' | 'sent' = 'not'
  /** How it is over; the handle is closed a moment later. */
  #over: 'ended' | 'reset' | undefined
  /** The other side reads no more; what it said before is still read, and then it is reset. */
  #isBroken = false
  #isResetDue = false
  #isGone = false

  /** The handle is connected, and used by nobody else. */
  constructor(handle: TcpHandle<TcpStream>) {
    this.#handle = handle
    handle.owner = this
  }

  /** Undefined: there is none any more. */
  get descriptor(): number | undefined {
    const { fd } = this.#handle
    return fd >= 0 ? fd : undefined
  }

  /** Undefined: it has left. */
  get peer(): Endpoint | undefined {
    const out: Partial<SocketName> = {}
    return this.#handle.getpeername(out) === 0 ? endpointOf(out) : undefined
  }

  get local(): Endpoint | undefined {
    const out: Partial<SocketName> = {}
    return this.#handle.getsockname(out) === 0 ? endpointOf(out) : undefined
  }

  get isOver(): boolean {
    return this.#over !== undefined
  }

  /** `listener` is called once it is gone, before its sink is told. */
  whenGone(listener: () => void): void {
    this.#whenGone = listener
  }

  /** For a peer on another host, which may vanish. */
  keepAlive(): void {
    this.#handle.setKeepAlive(true, KEEP_ALIVE_SECONDS)
  }

  open(sink: Sink): void {
    this.#sink = sink
    if (this.#over) {
      if (this.#isGone) process.nextTick(() => this.#tell())
      return
    }
    this.#handle.onread = onRead
    this.#handle.useUserBuffer(sharedBuffer)
    this.#read()
  }

  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    this.#stopReading()
    if (this.#isBroken) this.reset()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#read()
  }

  write(chunk: Buffer): boolean {
    if (this.#over || this.#isBroken) return true
    if (this.#block || this.#writing || chunk.length >= BULK_BYTES) this.#gather(chunk)
    else this.#writeSmall(chunk)
    this.#isSlow = this.#writing !== undefined
    return !this.#isSlow
  }

  end(): void {
    if (this.#end !== 'not' || this.#over || this.#isBroken) return
    this.#end = 'asked'
    this.#flush()
    if (!this.#writing) this.#shutDown()
  }

  reset(): void {
    if (this.#over) return
    this.#leave('reset')
    // Not while a shutdown is on its way, which is a moment: nothing waits to be sent before it.
    if (this.#end === 'sending') this.#isResetDue = true
    else this.#handle.reset(onGone)
  }

  /** Closes it as a process that ends does: a FIN, or a reset where something is unread, or was not sent. */
  close(): void {
    if (this.#block || this.#writing || this.#isBroken) this.reset()
    if (this.#over) return
    this.#leave('reset')
    this.#handle.close(onGone)
  }

  onWritten(): void {
    if (this.#writing?.length === BLOCK_BYTES) giveBlock(this.#writing)
    this.#writing = undefined
    if (this.#over || this.#isBroken) return
    for (let block = this.#full.shift(); block; block = this.#full.shift()) {
      this.#write(block, block)
      if (this.#writing) return
    }
    this.#flush()
    if (this.#writing || this.#over) return
    if (this.#end === 'asked') this.#shutDown()
    else if (this.#isSlow) {
      this.#isSlow = false
      this.#sink?.drain()
    }
  }

  /** It ends by a reset, whatever the error: a FIN would say that all has been sent. */
  onFailed({ code }: NodeJS.ErrnoException): void {
    if (!this.#isReading || !GONE.has(code ?? '')) {
      this.reset()
      return
    }
    this.#isBroken = true
    this.#drop()
  }

  #read(): void {
    if (!this.#sink || this.#isReading || this.#isPaused || this.#hasEnded || this.#over) return
    this.#isReading = true
    if (this.#handle.readStart() !== 0) this.reset()
  }

  #stopReading(): void {
    if (!this.#isReading) return
    this.#isReading = false
    this.#handle.readStop()
  }

  #onRead(bytes: number): void {
    const sink = this.#sink
    if (!sink || !this.#isReading || bytes === 0) return
    if (bytes > 0) {
      const chunk = sharedBuffer.subarray(0, bytes)
      sink.data(sink.borrows ? chunk : Buffer.from(chunk))
      return
    }
    this.#stopReading()
    if (bytes !== END_OF_FILE || this.#isBroken) {
      this.reset()
      return
    }
    this.#hasEnded = true
    sink.end()
    if (this.#end === 'sent') this.#closeInOrder()
  }

  /** One copy: the chunk is lent, and the kernel may not take all of it at once. */
  #writeSmall(chunk: Buffer): void {
    chunk.copy(small)
    if (writeToHandle(this.#handle, this, small.subarray(0, chunk.length))) return
    this.#writing = small
    small = Buffer.allocUnsafeSlow(BULK_BYTES)
  }

  #gather(chunk: Buffer): void {
    for (let from = 0; from < chunk.length && !this.#over && !this.#isBroken; ) {
      this.#block ??= takeBlock()
      const copied = chunk.copy(this.#block, this.#at, from)
      from += copied
      this.#at += copied
      if (this.#at === BLOCK_BYTES) this.#fullBlock(this.#block)
    }
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(flush, this)
  }

  #fullBlock(block: Buffer): void {
    if (!this.#writing) {
      this.#flush()
      return
    }
    this.#full.push(block)
    this.#block = undefined
    this.#at = 0
  }

  #flush(): void {
    const block = this.#block
    if (!block || this.#writing) return
    const written = block.subarray(0, this.#at)
    this.#block = undefined
    this.#at = 0
    this.#write(block, written)
  }

  #write(block: Buffer, written: Buffer): void {
    if (writeToHandle(this.#handle, this, written)) giveBlock(block)
    else this.#writing = block
  }

  #shutDown(): void {
    if (this.#over) return
    // Where the other side has ended and the kernel has every byte, closing says all that a shutdown before it would.
    if (this.#hasEnded) {
      this.#closeInOrder()
      return
    }
    this.#end = 'sending'
    const request = new (native().ShutdownWrap)<TcpStream>()
    request.owner = this
    request.oncomplete = onShutdown
    if (this.#handle.shutdown(request) !== 0) {
      this.#end = 'sent'
      this.reset()
    }
  }

  #onShutdown(status: number): void {
    this.#end = 'sent'
    if (this.#isResetDue) this.#handle.reset(onGone)
    else if (this.#over) return
    else if (status !== 0) this.reset()
    else if (this.#hasEnded) this.#closeInOrder()
  }

  #closeInOrder(): void {
    if (this.#over) return
    this.#leave('ended')
    this.#handle.close(onGone)
  }

  #leave(how: 'ended' | 'reset'): void {
    this.#over = how
    this.#stopReading()
    this.#drop()
  }

  #drop(): void {
    if (this.#block) giveBlock(this.#block)
    this.#block = undefined
    this.#at = 0
    this.#full = []
  }

  #onGone(): void {
    this.#isGone = true
    this.#whenGone?.()
    this.#tell()
  }

  #tell(): void {
    if (this.#over) this.#sink?.closed(this.#over)
  }

  static readonly callbacks = {
    onRead(this: TcpHandle<TcpStream>): void {
      const { streamBaseState, kReadBytesOrError } = native()
      streamOf(this).#onRead(streamBaseState[kReadBytesOrError] ?? 0)
    },
    onShutdown(this: Request<TcpStream>, status: number): void {
      streamOf(this).#onShutdown(status)
    },
    onGone(this: TcpHandle<TcpStream>): void {
      streamOf(this).#onGone()
    },
    onTurn(stream: TcpStream): void {
      stream.#scheduled = false
      stream.#flush()
    },
  }
}

const { onRead, onShutdown, onGone, onTurn: flush } = TcpStream.callbacks

function streamOf({ owner }: { readonly owner?: TcpStream }): TcpStream {
  if (!owner) throw new Error('a handle without its stream')
  return owner
}

function endpointOf({ address = '', port = 0 }: Partial<SocketName>): Endpoint | undefined {
  const canonical = canonicalAddress(address)
  return canonical === undefined ? undefined : { address: canonical, port }
}

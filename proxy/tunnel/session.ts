// One connection's HTTP/2, of the CONNECT subset and either role: its beginning, its SETTINGS and PINGs, its errors, and
// how it ends. What frames of streams mean is in streams.ts.
import type { Duplex } from 'node:stream'
import { ErrorCode, Http2Error } from '../http2/errors.ts'
import { FrameReader } from '../http2/frame-reader.ts'
import {
  CONNECTION_PREFACE,
  goawayFrame,
  INITIAL,
  MAX_STREAM_ID,
  pingFrame,
  Setting,
  type SettingEntry,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../http2/frames.ts'
import type { LentReads } from '../tcp/lent-reads.ts'
import { Allowed } from './abuse.ts'
import { connectionWindow } from './incoming.ts'
import { Output } from './output.ts'
import { LINGER_MS, NOTICE_MS, RATES, RECEIVE, SEND, SETTINGS_TIMEOUT_MS, UNREAD_MS } from './settings.ts'
import { Streams, type StreamsOptions } from './streams.ts'

export type SessionOptions = Omit<StreamsOptions, 'onIdle' | 'onFault' | 'lends'> & {
  /** Its handshake is done. */
  readonly socket: Duplex
  /** Its reads, if it emits no 'data'. */
  readonly reads?: LentReads | undefined
  /** The last stream is gone. */
  onIdle?(): void
  /** The peer takes no new streams; `debug` is what it said with it. */
  onGoaway?(debug: string): void
  /** The connection is gone, and all its streams. */
  onClose(): void
}

const RETIRE = Buffer.from('retiring')
const LIVENESS = Buffer.from('liveness')
const LAST = Buffer.from('the last')

export class Session {
  readonly streams: Streams
  /** Whether anything has come since it was last set to false. */
  heard = true
  readonly #options: SessionOptions
  readonly #socket: Duplex
  readonly #output: Output
  readonly #reader: FrameReader
  readonly #allowed: Record<keyof typeof RATES, Allowed>
  /** `retiring`: no new streams, and it ends with the last; `ending`: what is queued is written, nothing is read. */
  #state: 'open' | 'retiring' | 'ending' | 'closed' = 'open'
  #startedAt = performance.now()
  #acknowledged = false
  /** A server’s last word was said: what comes is not looked at any more. A client needs none. */
  #final: boolean
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(options: SessionOptions) {
    const { role, socket, reads, maxStreams } = options
    this.#options = options
    this.#socket = socket
    this.#final = role === 'client'
    this.#output = new Output(socket, {
      fill: (block, at) => this.streams.outgoing.fill(block, at),
      onFilled: () => this.#filled(),
    })
    this.streams = new Streams(
      {
        ...options,
        lends: reads !== undefined,
        onIdle: () => this.#idle(),
        onFault: () => this.#charge('tunnel_resets'),
      },
      this.#output,
    )
    const from = role === 'client' ? 'server' : 'client'
    this.#reader = new FrameReader(this.#handler(), { from, maxFrameSize: RECEIVE.maxFrameSize })
    const now = this.#startedAt
    this.#allowed = {
      tunnel_resets: new Allowed(RATES.tunnel_resets, now),
      tunnel_pings: new Allowed(RATES.tunnel_pings, now),
      tunnel_settings: new Allowed(RATES.tunnel_settings, now),
      tunnel_empty_frames: new Allowed(RATES.tunnel_empty_frames, now),
      tunnel_useless_frames: new Allowed(RATES.tunnel_useless_frames, now),
    }
    if (role === 'client') this.#output.control(CONNECTION_PREFACE)
    this.#output.control(settingsFrame(settingsOf(role, maxStreams)))
    this.#output.control(windowUpdateFrame(0, connectionWindow(maxStreams) - INITIAL.window))
    this.#after(SETTINGS_TIMEOUT_MS, () => {
      if (!this.#acknowledged) this.#fail(new Http2Error(ErrorCode.SETTINGS_TIMEOUT, 'no SETTINGS ACK'))
    })
    socket.on('error', () => {})
    const read = (chunk: Buffer) => this.#read(chunk)
    if (reads) reads.deliverTo(read)
    else socket.on('data', read)
    socket.resume()
    socket.once('end', () => this.destroy())
    socket.once('close', () => this.#close())
  }

  /** Whether a client may open one more stream. */
  get hasRoom(): boolean {
    return this.#state === 'open' && this.streams.size < this.streams.room
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /**
   * Takes no new streams and ends with the last. A server gives notice first, and takes what was on its way meanwhile
   * (RFC 9113, section 6.8): no request is lost. Without notice it takes none that it has not seen.
   */
  retire({ notice = true }: { notice?: boolean } = {}): void {
    if (this.#state !== 'open') return
    this.#state = 'retiring'
    if (!notice) this.#lastWord()
    else if (this.#options.role === 'server') {
      this.#output.control(goawayFrame(MAX_STREAM_ID, ErrorCode.NO_ERROR))
      this.#output.control(pingFrame(RETIRE, false))
      this.#after(NOTICE_MS, () => this.#lastWord())
    } else this.#finishIfIdle()
  }

  /** Ends every stream at once, and says why. The socket is read on until the peer has read it. */
  dismiss(code: ErrorCode, debug: string): void {
    if (this.#state === 'ending' || this.#state === 'closed') return
    this.#output.control(goawayFrame(this.streams.stopAccepting(), code, Buffer.from(debug)))
    this.#end()
    this.#reader.stop()
    this.streams.cutOff(0, code)
    this.#after(LINGER_MS, () => this.destroy())
  }

  destroy(): void {
    this.#socket.destroy()
    this.#close()
  }

  ping(): void {
    if (this.#state !== 'ending') this.#output.control(pingFrame(LIVENESS, false))
  }

  #handler(): ConstructorParameters<typeof FrameReader>[0] {
    const { streams } = this
    return {
      data: (id, piece, flowControlled, endStream) => {
        if (flowControlled === 0 && !endStream) this.#charge('tunnel_empty_frames')
        streams.data(id, piece, flowControlled, endStream)
      },
      headers: (id, block, endStream) => streams.headers(id, block, endStream),
      priority: () => this.#charge('tunnel_useless_frames'),
      rstStream: (id, code) => {
        if (this.#options.role === 'server') this.#charge('tunnel_resets')
        streams.rstStream(id, code)
      },
      settings: entries => {
        this.#charge('tunnel_settings')
        streams.applySettings(entries)
        this.#output.control(settingsAckFrame())
      },
      settingsAck: () => {
        if (!this.#acknowledged) streams.incoming.roundTrip = Math.max(1, performance.now() - this.#startedAt)
        this.#acknowledged = true
      },
      ping: (opaque, ack) => {
        this.#charge('tunnel_pings')
        if (!ack) this.#output.control(pingFrame(opaque, true))
        else if (opaque.equals(RETIRE)) this.#lastWord()
        else if (opaque.equals(LAST)) this.#after(LINGER_MS, () => this.destroy())
      },
      goaway: (lastStreamId, _code, debug) => this.#goaway(lastStreamId, debug.toString('latin1')),
      windowUpdate: (id, increment) => streams.windowUpdate(id, increment),
      unknown: () => this.#charge('tunnel_useless_frames'),
      streamError: ({ streamId = 0, code }) => streams.fail(streamId, code),
    }
  }

  #read(chunk: Buffer): void {
    this.heard = true
    try {
      this.#reader.push(chunk)
    } catch (thrown) {
      this.#fail(thrown)
    }
    this.#options.held.check()
    // Who makes us answer and does not read the answers waits.
    if (this.#output.waitingBytes > SEND.answers) {
      this.#options.onLimit('tunnel_answers')
      this.#socket.pause()
    }
  }

  #filled(): void {
    if (this.#socket.isPaused() && this.#output.waitingBytes <= SEND.answers) this.#socket.resume()
    this.streams.outgoing.onFilled()
  }

  #charge(limit: keyof typeof RATES): void {
    if (this.#allowed[limit].take(performance.now())) return
    this.#options.onLimit(limit)
    throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, limit)
  }

  #fail(thrown: unknown): void {
    if (thrown instanceof Http2Error) this.dismiss(thrown.code, thrown.message)
    else this.dismiss(ErrorCode.INTERNAL_ERROR, 'internal error')
  }

  #goaway(lastStreamId: number, debug: string): void {
    this.#options.onGoaway?.(debug)
    if (this.#options.role === 'server') return
    if (this.#state === 'open') this.#state = 'retiring'
    this.streams.cutOff(lastStreamId, ErrorCode.REFUSED_STREAM)
    this.#finishIfIdle()
  }

  #lastWord(): void {
    if (this.#state !== 'retiring' || this.#final) return
    this.#final = true
    this.#output.control(goawayFrame(this.streams.stopAccepting(), ErrorCode.NO_ERROR))
    this.#finishIfIdle()
  }

  #idle(): void {
    this.#options.onIdle?.()
    this.#finishIfIdle()
  }

  #finishIfIdle(): void {
    if (this.#state !== 'retiring' || !this.#final || this.streams.size > 0) return
    if (this.#options.role === 'client') this.#output.control(goawayFrame(0, ErrorCode.NO_ERROR))
    // Who answers it has read all. Until then it may be slow, but goes on sending no longer than one that is silent may be.
    this.#output.control(pingFrame(LAST, false))
    this.#end()
    this.#after(UNREAD_MS, () => this.destroy())
  }

  #end(): void {
    this.#state = 'ending'
    this.#output.end()
  }

  #close(): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    for (const timer of this.#timers) clearTimeout(timer)
    this.streams.cutOff(0, ErrorCode.CANCEL)
    this.#options.onClose()
  }

  #after(ms: number, act: () => void): void {
    this.#timers.add(setTimeout(act, ms).unref())
  }
}

const settingsOf = (role: 'client' | 'server', maxStreams: number): SettingEntry[] => [
  [Setting.initialWindowSize, RECEIVE.streamWindow],
  [Setting.maxFrameSize, RECEIVE.maxFrameSize],
  [Setting.maxHeaderListSize, RECEIVE.maxHeaderListSize],
  role === 'client' ? [Setting.enablePush, 0] : [Setting.maxConcurrentStreams, maxStreams],
]

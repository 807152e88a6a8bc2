// One TLS connection of the dialler: connects, identifies the peer before a byte of HTTP/2 is sent, and opens streams.
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
} from 'node:http2'
import type { TLSSocket } from 'node:tls'
import { authorityOf } from '../../shared/addresses.ts'
import type { Clock } from '../../shared/clock.ts'
import { unless } from '../../shared/deadline.ts'
import { asPosternError, isCode, PosternError } from '../../shared/errors.ts'
import type { ByteStream } from './byte-stream.ts'
import { retireAtExpiry } from './expiry.ts'
import type { IdentifyPeer, KeepPeer, Peer, TunnelTarget, TunnelTls } from './interface.ts'
import {
  CLIENT_SESSION_OPTIONS,
  DIALER_LIMITS,
  LIVENESS_INTERVAL_MS,
  watchLiveness,
  widen,
} from './settings.ts'
import { type AnswerHeaders, handshake, response } from './steps.ts'
import { asByteStream, reset } from './stream.ts'

export type ConnectionOptions = {
  readonly tls: TunnelTls
  readonly identify: IdentifyPeer
  readonly clock: Clock
  readonly port: number
  readonly livenessMs?: number
}

type Established = { readonly session: ClientHttp2Session; readonly socket: TLSSocket; readonly peer: Peer }

/** Lives from its creation to `onClose`. Streams that wait for the handshake count as its streams. */
export class TunnelConnection {
  readonly generation: number
  readonly #established: Promise<Established>
  readonly #onClose: () => void
  #live: Established | undefined
  #streams = 0
  #retired = false
  #closed = false
  #refusal: PosternError | undefined
  #idleTimer: NodeJS.Timeout | undefined

  constructor(target: TunnelTarget, options: ConnectionOptions, onClose: () => void) {
    this.generation = options.tls.generation
    this.#onClose = onClose
    this.#established = this.#connect(target, options)
    this.#established.catch(() => this.close())
  }

  /** Undefined until the handshake is done. */
  get peer(): Peer | undefined {
    return this.#live?.peer
  }

  keeps(keep: KeepPeer): boolean {
    return this.#live === undefined || keep(this.#live.peer, this.#live.socket)
  }

  get hasRoom(): boolean {
    const allowed =
      this.#live?.session.remoteSettings.maxConcurrentStreams ?? DIALER_LIMITS.streamsPerConnection
    return !this.#retired && this.#streams < Math.min(allowed, DIALER_LIMITS.streamsPerConnection)
  }

  /** Takes no new streams and closes after the last. */
  retire(): void {
    this.#retired = true
    if (this.#streams === 0) this.#finish()
  }

  /** Ends every stream at once. */
  close(refusal?: PosternError): void {
    this.#closed = true
    this.#retired = true
    this.#refusal ??= refusal
    clearTimeout(this.#idleTimer)
    this.#live?.session.destroy()
    this.#onClose()
  }

  /** @throws PosternError; if `retired` is true then, the connection is at fault and another may do. */
  async open(target: TunnelTarget, signal: AbortSignal): Promise<{ stream: ByteStream; peer: Peer }> {
    this.#streams += 1
    clearTimeout(this.#idleTimer)
    let stream: ClientHttp2Stream
    let established: Established
    try {
      established = await unless(signal, this.#established)
      stream = this.#request(established.session, target)
    } catch (thrown) {
      this.#release()
      throw thrown
    }
    stream.once('close', () => this.#release())
    const bytes = asByteStream(stream)
    await this.#answer(stream, target.authority, signal)
    return { stream: bytes, peer: established.peer }
  }

  get retired(): boolean {
    return this.#retired
  }

  #release(): void {
    this.#streams -= 1
    if (this.#streams > 0) return
    if (this.#retired) this.#finish()
    else this.#idleTimer = setTimeout(() => this.retire(), DIALER_LIMITS.idleMs).unref()
  }

  /** In good order: a stream counts as closed before its end, or its last bytes, have left. */
  #finish(): void {
    if (this.#live) this.#live.session.close()
    else this.close()
  }

  async #connect(target: TunnelTarget, options: ConnectionOptions): Promise<Established> {
    const { tls, identify, clock, port } = options
    const socket = await handshake(target.address, port, tls, DIALER_LIMITS.connectTimeoutMs)
    try {
      if (this.#closed) throw this.#lost(target.authority)
      const peer = identify(socket)
      if (peer.identity !== target.pod.identity) {
        const where = authorityOf(target.address, port)
        const why = `${where} is ${peer.identity}, not ${target.pod.identity}`
        throw new PosternError('PSTN_PEER_UNEXPECTED', why)
      }
      const session = connectHttp2(`https://${authorityOf(target.address, port)}`, {
        ...CLIENT_SESSION_OPTIONS,
        createConnection: () => socket,
      })
      this.#watch(session, socket, options.livenessMs)
      void retireAtExpiry(session, [tls.notAfter, peer.notAfter], clock, () => this.retire())
      this.#live = { session, socket, peer }
      return this.#live
    } catch (thrown) {
      socket.destroy()
      throw asPosternError(thrown, 'PSTN_PEER_UNTRUSTED')
    }
  }

  #watch(session: ClientHttp2Session, socket: TLSSocket, livenessMs = LIVENESS_INTERVAL_MS): void {
    session.once('connect', () => widen(session))
    session.on('error', () => {})
    session.on('goaway', (_code, _lastStream, opaque) => {
      this.#retired = true
      const code = opaque?.toString('latin1') ?? ''
      if (isCode(code))
        this.#refusal = new PosternError(code, `the peer at ${socket.remoteAddress} refused us`)
    })
    session.once('close', () => this.close())
    watchLiveness(session, socket, livenessMs, () => {
      this.close(new PosternError('PSTN_PEER_UNREACHABLE', `${socket.remoteAddress} stopped answering`))
    })
  }

  #request(session: ClientHttp2Session, { authority, headers }: TunnelTarget): ClientHttp2Stream {
    if (session.destroyed || session.closed) throw this.#lost(authority)
    const stream = session.request({ ...headers, ':method': 'CONNECT', ':authority': authority })
    return stream.on('error', () => {})
  }

  async #answer(stream: ClientHttp2Stream, authority: string, signal: AbortSignal): Promise<void> {
    try {
      const headers = await response(stream, DIALER_LIMITS.answerTimeoutMs, signal)
      if (headers === undefined) throw this.#lost(authority)
      if (headers[':status'] !== 200) throw refusalOf(headers, authority)
    } catch (thrown) {
      if (stream.rstCode === constants.NGHTTP2_REFUSED_STREAM) this.retire()
      reset(stream, constants.NGHTTP2_CANCEL)
      throw thrown
    }
  }

  #lost(authority: string): PosternError {
    return this.#refusal ?? new PosternError('PSTN_PEER_UNREACHABLE', `the tunnel to ${authority} was lost`)
  }
}

function refusalOf(answer: AnswerHeaders, authority: string): PosternError {
  const code = String(answer['postern-code'] ?? '')
  if (isCode(code)) return new PosternError(code, `the peer refused ${authority}`)
  return new PosternError('PSTN_PEER_UNREACHABLE', `the peer answered ${answer[':status']} to ${authority}`)
}

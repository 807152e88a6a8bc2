// One TLS connection of the dialler: connects, identifies the peer before a byte of HTTP/2 is sent, and opens streams.
import type { TLSSocket } from 'node:tls'
import { authorityOf } from '../../shared/addresses.ts'
import type { Clock } from '../../shared/clock.ts'
import { unless } from '../../shared/deadline.ts'
import type { EndSignal } from '../../shared/ending.ts'
import { asPosternError, type Code, isCode, PosternError } from '../../shared/errors.ts'
import { ErrorCode } from '../http2/errors.ts'
import type { LentReads } from '../tcp/lent-reads.ts'
import type { Limit } from './abuse.ts'
import type { ByteStream } from './byte-stream.ts'
import { type Answer, writeConnect } from './connect-headers.ts'
import { checkAnswerer, shownTo, trustDomainOf } from './expected.ts'
import { retireAtExpiry } from './expiry.ts'
import type { Allowance } from './flow-control.ts'
import { handshake } from './handshake.ts'
import type { Held } from './held.ts'
import type { IdentifyPeer, KeepPeer, Peer, TunnelTarget, TunnelTls } from './interface.ts'
import { watchLiveness } from './liveness.ts'
import { alertAboutUs, RefusedByPeer } from './refused-by-peer.ts'
import { Session } from './session.ts'
import { DIALER_LIMITS, LIVENESS_INTERVAL_MS } from './settings.ts'
import type { TunnelStream } from './stream.ts'

export type ConnectionOptions = {
  readonly tls: TunnelTls
  readonly identify: IdentifyPeer
  readonly clock: Clock
  readonly port: number
  readonly livenessMs?: number
  readonly growth: Allowance
  readonly held: Held
  onLimit?(limit: Limit): void
}

type Established = { readonly session: Session; readonly socket: TLSSocket; readonly peer: Peer }

/** Lives from its creation to `onClose`. Streams that wait for the handshake count as its streams. */
export class TunnelConnection {
  readonly generation: number
  readonly #established: Promise<Established>
  readonly #onClose: () => void
  readonly #over = new AbortController()
  #live: Established | undefined
  #waiting = 0
  #retired = false
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

  get retired(): boolean {
    return this.#retired
  }

  get hasRoom(): boolean {
    if (this.#retired) return false
    return this.#live ? this.#live.session.hasRoom : this.#waiting < DIALER_LIMITS.streamsPerConnection
  }

  /** Takes no new streams and closes after the last. */
  retire(): void {
    if (this.#retired) return
    this.#retired = true
    if (this.#live) this.#live.session.retire()
    else if (this.#waiting === 0) this.close()
  }

  /** Ends every stream at once. */
  close(refusal?: PosternError): void {
    if (this.#over.signal.aborted) return
    this.#retired = true
    this.#refusal ??= refusal
    clearTimeout(this.#idleTimer)
    this.#over.abort()
    this.#live?.session.destroy()
    this.#onClose()
  }

  /** @throws PosternError; if `retired` is true then, the connection is at fault and another may do. */
  async open(target: TunnelTarget, signal: EndSignal): Promise<{ stream: ByteStream; peer: Peer }> {
    const { session, peer } = this.#live ?? (await this.#handshake(signal))
    return { stream: await this.#request(session, target, signal), peer }
  }

  async #handshake(signal: EndSignal): Promise<Established> {
    this.#waiting += 1
    try {
      return await unless(signal, this.#established)
    } finally {
      this.#waiting -= 1
      if (this.#waiting === 0 && !this.#live && this.#retired) this.close()
    }
  }

  async #connect(target: TunnelTarget, options: ConnectionOptions): Promise<Established> {
    const { tls, identify, clock, port } = options
    const { address, expected } = target
    const shown = shownTo(expected, tls)
    const { socket, reads } = await handshake(address, port, shown, DIALER_LIMITS.connectTimeoutMs)
    try {
      if (this.#over.signal.aborted) throw this.#lost(target.authority)
      const peer = identify(socket, trustDomainOf(expected))
      checkAnswerer(peer, expected, authorityOf(address, port))
      const expiries = [tls.notAfter, peer.notAfter] as const
      void retireAtExpiry(expiries, clock, this.#over.signal, () => this.retire())
      this.#live = { session: this.#start(socket, reads, options), socket, peer }
      if (this.#retired) this.#live.session.retire()
      else this.#rest()
      return this.#live
    } catch (thrown) {
      socket.destroy()
      throw asPosternError(thrown, 'PSTN_PEER_UNTRUSTED')
    }
  }

  #start(socket: TLSSocket, reads: LentReads, options: ConnectionOptions): Session {
    const { growth, held, onLimit = () => {}, livenessMs = LIVENESS_INTERVAL_MS } = options
    const { remoteAddress } = socket
    const refusedBy = (code: Code) => new RefusedByPeer(code, `the peer at ${remoteAddress} refused us`)
    socket.on('error', error => {
      const code = alertAboutUs(error)
      if (code) this.#refusal ??= refusedBy(code)
    })
    const session = new Session({
      role: 'client',
      socket,
      reads,
      growth,
      held,
      maxStreams: DIALER_LIMITS.streamsPerConnection,
      onRequest: () => {},
      onLimit,
      onIdle: () => this.#rest(),
      onGoaway: debug => {
        this.#retired = true
        if (isCode(debug)) this.#refusal = refusedBy(debug)
      },
      onClose: () => {
        liveness[Symbol.dispose]()
        this.close()
      },
    })
    const liveness = watchLiveness(session, livenessMs, () => {
      this.close(new PosternError('PSTN_PEER_UNREACHABLE', `${remoteAddress} stopped answering`))
    })
    return session
  }

  #rest(): void {
    const retireIfIdle = () => {
      if (this.#live?.session.streams.size === 0) this.retire()
    }
    this.#idleTimer ??= setTimeout(retireIfIdle, DIALER_LIMITS.idleMs).unref()
    this.#idleTimer.refresh()
  }

  #request(session: Session, target: TunnelTarget, signal: EndSignal): Promise<TunnelStream> {
    const { authority, headers } = target
    if (!session.hasRoom) throw this.#unanswered(session, authority, ErrorCode.REFUSED_STREAM)
    const { promise, resolve, reject } = Promise.withResolvers<TunnelStream>()
    const settle = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    }
    const giveUp = (why: unknown) => {
      reject(why)
      stream.reset(ErrorCode.CANCEL)
    }
    const onAbort = () => giveUp(signal.reason)
    const timer = setTimeout(() => giveUp(this.#lost(authority)), DIALER_LIMITS.answerTimeoutMs)
    const stream = session.streams.open(writeConnect(authority, headers), (answer, code) => {
      settle()
      if (answer?.status === 200) return resolve(stream)
      reject(answer ? refusalOf(answer, authority) : this.#unanswered(session, authority, code))
      // A server that has ended the stream with its answer may have forgotten it, and counts resets.
      if (stream.remoteEnded) stream.end()
      else stream.reset(ErrorCode.CANCEL)
    })
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    return promise
  }

  #unanswered(session: Session, authority: string, code: ErrorCode): PosternError {
    if (code !== ErrorCode.REFUSED_STREAM || this.#refusal) return this.#lost(authority)
    // Refused for another reason than that it is full.
    if (session.hasRoom) this.retire()
    return new StreamRefused('PSTN_PEER_UNREACHABLE', `the peer did not look at the request for ${authority}`)
  }

  #lost(authority: string): PosternError {
    return this.#refusal ?? new PosternError('PSTN_PEER_UNREACHABLE', `the tunnel to ${authority} was lost`)
  }
}

/** It was not looked at, and may be repeated on another connection (RFC 9113, section 8.7). */
export class StreamRefused extends PosternError {}

function refusalOf({ status, code = '' }: Answer, authority: string): PosternError {
  if (isCode(code)) return new RefusedByPeer(code, `the peer refused ${authority}`)
  return new PosternError('PSTN_PEER_UNREACHABLE', `the peer answered ${status} to ${authority}`)
}

// The server's side of one TLS handshake, on a connection of which nothing was read. Node's own servers would do, but do
// not say which connection it is that a handshake was made on, and want one server for each way to ask.
import { type SecureContext, TLSSocket } from 'node:tls'
import { PosternError } from '../../shared/errors.ts'
import { chainFlaw } from '../tcp/native.ts'
import { TlsStream } from '../tcp/tls-stream.ts'
import type { ByteStream } from '../tunnel/byte-stream.ts'
import { Carrier } from './carrier.ts'

export type Handshake = {
  readonly secureContext: SecureContext
  readonly requestCert: boolean
  /** Offered; with none of them in common there is no connection. Empty: ALPN is not spoken. */
  readonly alpn: readonly string[]
  readonly timeoutMs: number
}

/** Not identified yet: `socket` has the certificate, `stream` the bytes. */
export type Handshaken = { readonly socket: TLSSocket; readonly stream: ByteStream }

/**
 * Where it fails, the other side may read why before `connection` is reset.
 * @throws PosternError PSTN_TLS_FAILED, or PSTN_PLAINTEXT_REFUSED for what is not TLS at all.
 */
export function handshake(connection: ByteStream, options: Handshake): Promise<Handshaken> {
  const { promise, resolve, reject } = Promise.withResolvers<Handshaken>()
  const { secureContext, requestCert, alpn, timeoutMs } = options
  const carrier = new Carrier(connection, () => socket.onCarrierEnd())
  const socket = new ServerSocket(carrier, {
    isServer: true,
    secureContext,
    requestCert,
    // Whoever is given the socket must identify the peer: only then can a refusal say its code.
    rejectUnauthorized: false,
    ...(alpn.length > 0 && { ALPNProtocols: [...alpn] }),
  })
  const fail = (error: Error) => {
    clearTimeout(timer)
    reject(failureOf(error))
  }
  const onClose = () => fail(new Error('closed during the handshake'))
  const timer = setTimeout(() => {
    fail(new Error(`no handshake within ${timeoutMs} ms`))
    connection.reset()
  }, timeoutMs)
  socket.on('error', fail)
  socket.on('close', onClose)
  // Not `secureConnect`, which is the client's.
  socket.once('secure', () => {
    clearTimeout(timer)
    socket.off('error', fail).off('close', onClose)
    socket.judge(requestCert)
    resolve({ socket, stream: new TlsStream({ socket, cut: () => connection.reset() }) })
  })
  return promise
}

class ServerSocket extends TLSSocket {
  /** close_notify was read. */
  #hasEnded = false

  override push(chunk: Buffer | null, encoding?: BufferEncoding): boolean {
    if (chunk === null) this.#hasEnded = true
    return super.push(chunk, encoding)
  }

  /** A FIN that nobody announced may be anybody's: what came before need not be all that was said (RFC 8446, section 6.1). */
  onCarrierEnd(): void {
    if (!this.#hasEnded) this.destroy(new Error('ended without close_notify'))
  }

  /** As a tls.Server does before it shows a connection. */
  judge(requestCert: boolean): void {
    const flaw = requestCert ? chainFlaw(this) : undefined
    this.authorized = requestCert && flaw === undefined
    if (flaw !== undefined) Object.assign(this, { authorizationError: flaw })
  }
}

/** OpenSSL's, where the first bytes are no record of TLS. */
const NOT_TLS: ReadonlySet<string> = new Set([
  'ERR_SSL_HTTP_REQUEST',
  'ERR_SSL_HTTPS_PROXY_REQUEST',
  'ERR_SSL_WRONG_VERSION_NUMBER',
])

function failureOf(error: NodeJS.ErrnoException): PosternError {
  const isPlaintext = NOT_TLS.has(error.code ?? '')
  if (isPlaintext) return new PosternError('PSTN_PLAINTEXT_REFUSED', 'the port takes TLS alone')
  return new PosternError('PSTN_TLS_FAILED', error.message, { cause: error })
}

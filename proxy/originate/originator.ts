// Dials hosts outside the mesh with TLS, as a client of theirs: verified as browsers do, by chain and by name. There is no
// way from here to plaintext. The connection is made to the address that the application dialled; no name is resolved.
import { connect as connectSocket, type Socket, type TcpNetConnectOpts } from 'node:net'
import { type ConnectionOptions, connect, createSecureContext, type SecureContext } from 'node:tls'
import { authorityOf } from '../../shared/addresses.ts'
import type { Clock } from '../../shared/clock.ts'
import type { EndSignal } from '../../shared/ending.ts'
import { asPosternError, type PosternError } from '../../shared/errors.ts'
import type { Live } from '../../shared/live.ts'
import type { OutsideHost, OutsideMode } from '../../shared/policy/outside-host.ts'
import { TlsStream } from '../tcp/tls-stream.ts'
import type { ByteStream } from '../tunnel/byte-stream.ts'
import type { TunnelTls } from '../tunnel/interface.ts'
import { ownInForce } from '../tunnel/own-in-force.ts'
import { failureOf, refusalOfUs } from './failures.ts'

export type OriginateTarget = {
  readonly address: string
  readonly port: number
  readonly host: OutsideHost
}

export type Originator = {
  /**
   * A verified connection. `onRefused` is called if the host refuses our certificate afterwards, before its end.
   * @throws PosternError PSTN_DESTINATION_UNREACHABLE, PSTN_OUTSIDE_…, PSTN_LIMIT; PSTN_NOT_READY or PSTN_CERT_EXPIRED where
   * this sidecar is to show a certificate and has none; what `signal` aborted with.
   */
  open(
    target: OriginateTarget,
    signal: EndSignal,
    onRefused: (error: PosternError) => void,
  ): Promise<ByteStream>
}

export type OriginatorOptions = {
  /** Whose certificate is shown where a host asks for one. */
  readonly tls: Live<TunnelTls | undefined>
  readonly clock: Clock
  readonly timeoutMs?: number
}

/** Until the host was verified, connecting and all. */
const TIMEOUT_MS = 10_000
const KEEP_ALIVE_MS = 60_000

export function createOriginator({ tls, clock, timeoutMs = TIMEOUT_MS }: OriginatorOptions): Originator {
  const contextFor = cachedContexts()
  return {
    open: async ({ address, port, host }, signal, onRefused) => {
      const isMutual = host.tls.mode === ('MUTUAL' satisfies OutsideMode)
      const secureContext = contextFor(host, isMutual ? ownInForce(tls.get(), clock.now()) : undefined)
      const socket = connectSocket({ host: address, port, allowHalfOpen: true, noDelay: true })
      socket.setKeepAlive(true, KEEP_ALIVE_MS)
      const options: ConnectionOptions & Pick<TcpNetConnectOpts, 'allowHalfOpen'> = {
        socket,
        secureContext,
        servername: host.host,
        rejectUnauthorized: true,
        allowHalfOpen: true,
        ...(host.tls.alpn && { ALPNProtocols: [...host.tls.alpn] }),
      }
      const where = `${host.name} (${host.host}) at ${authorityOf(address, port)}`
      return handshake(socket, options, { where, signal, onRefused, timeoutMs })
    },
  }
}

type Handshake = {
  readonly where: string
  readonly signal: EndSignal
  readonly onRefused: (error: PosternError) => void
  readonly timeoutMs: number
}

function handshake(
  raw: Socket,
  options: ConnectionOptions,
  { where, signal, onRefused, timeoutMs }: Handshake,
): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>()
  const socket = connect(options)
  let isConnected = false
  const settle = () => {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
    socket.off('error', onError)
    socket.off('close', onClose)
  }
  const fail = (error: PosternError) => {
    settle()
    socket.on('error', () => {})
    raw.destroy()
    socket.destroy()
    reject(error)
  }
  const onError = (error: Error) => {
    // Node's types say Error; it is the name of the flaw.
    const verdict = socket.authorizationError ? String(socket.authorizationError) : undefined
    fail(failureOf({ where, isConnected, verdict }, error))
  }
  const onClose = () => onError(new Error('closed during the handshake'))
  const onAbort = () => fail(asPosternError(signal.reason, 'PSTN_DRAINING'))
  const timer = setTimeout(() => onError(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
  raw.once('connect', () => {
    isConnected = true
  })
  raw.on('error', error => socket.destroy(error))
  socket.on('error', onError)
  socket.on('close', onClose)
  socket.once('secureConnect', () => {
    settle()
    const stream = new TlsStream({
      socket,
      cut: () => void raw.resetAndDestroy(),
      onError: error => {
        const refusal = refusalOfUs(where, error)
        if (refusal) onRefused(refusal)
      },
    })
    resolve(stream)
  })
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return promise
}

/** Of a document as it is in force, and of our certificate as it was last used there: neither is kept beyond that. */
function cachedContexts(): (host: OutsideHost, own: TunnelTls | undefined) => SecureContext {
  type Cached = { readonly generation: number | undefined; readonly context: SecureContext }
  const contexts = new WeakMap<OutsideHost, Cached>()
  return (host, own) => {
    const generation = own?.generation
    const found = contexts.get(host)
    if (found && found.generation === generation) return found.context
    const context = createSecureContext(contextOptions(host.tls.roots, own))
    contexts.set(host, { generation, context })
    return context
  }
}

const contextOptions = (roots: readonly string[] | undefined, own: TunnelTls | undefined) => ({
  // An empty list trusts nobody; none at all, as a document has to say, the public roots that Node ships.
  ...(roots && { ca: [...roots] }),
  ...(own && { cert: own.context.cert, key: own.context.key }),
  // Outside there are hosts that speak no 1.3.
  minVersion: 'TLSv1.2' as const,
})

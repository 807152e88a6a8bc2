// Dials an application, or a destination without a sidecar, at the address that was asked for.
import { connect } from 'node:net'
import { authorityOf } from '../../shared/addresses.ts'
import type { EndSignal } from '../../shared/ending.ts'
import { asPosternError, type Code, PosternError } from '../../shared/errors.ts'
import type { ByteStream } from '../tunnel/byte-stream.ts'
import { LentReads } from '../tunnel/lent-reads.ts'
import { SocketStream } from './socket-stream.ts'

export type DialOptions = {
  readonly signal: EndSignal
  /** The code of a failure. */
  readonly code?: Code
  readonly timeoutMs?: number
  /** The destination is on another host, which may vanish: four more system calls notice that. */
  readonly isRemote?: boolean
}

const TIMEOUT_MS = 10_000
/** The keep-alive of an application ends at its sidecar: this one notices a host that vanished. */
export const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 60_000 } as const

/** A connected socket, half-open: each direction ends on its own. @throws PosternError */
export function dial(
  { address, port }: { readonly address: string; readonly port: number },
  { signal, code = 'PSTN_APP_UNREACHABLE', timeoutMs = TIMEOUT_MS, isRemote }: DialOptions,
): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>()
  const reads = new LentReads()
  const { onread } = reads
  const keepAlive = isRemote ? KEEP_ALIVE : undefined
  const socket = connect({ host: address, port, onread, allowHalfOpen: true, noDelay: true, ...keepAlive })
  socket.pause()
  const settle = () => {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
  const fail = (error: PosternError) => {
    settle()
    socket.destroy()
    reject(error)
  }
  const unreachable = (why: string, cause?: Error) =>
    fail(new PosternError(code, `${authorityOf(address, port)}: ${why}`, { cause }))
  const onAbort = () => fail(asPosternError(signal.reason, code))
  const timer = setTimeout(() => unreachable(`no answer within ${timeoutMs} ms`), timeoutMs)
  socket.on('error', error => unreachable(error.message, error))
  socket.once('connect', () => {
    settle()
    resolve(new SocketStream(socket, reads))
  })
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return promise
}

// Dials an application, or a destination without a sidecar, at the address that was asked for.
import { connect, type Socket } from 'node:net'
import { authorityOf } from '../../shared/addresses.ts'
import { type Code, PosternError } from '../../shared/errors.ts'

export type DialOptions = {
  readonly signal: AbortSignal
  /** What a failure is called. */
  readonly code?: Code
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 10_000

/** A connected socket, paused and half-open: each direction ends on its own. @throws PosternError PSTN_APP_UNREACHABLE */
export function dial(
  { address, port }: { readonly address: string; readonly port: number },
  { signal, code = 'PSTN_APP_UNREACHABLE', timeoutMs = TIMEOUT_MS }: DialOptions,
): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>()
  const socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true })
  const fail = (why: string, cause?: unknown) => {
    settle()
    socket.destroy()
    reject(new PosternError(code, `${authorityOf(address, port)}: ${why}`, { cause }))
  }
  const onError = (error: Error) => fail(error.message, error)
  const onAbort = () => fail('the caller left', signal.reason)
  const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs)
  const settle = () => {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
  socket.on('error', onError)
  socket.once('connect', () => {
    settle()
    resolve(socket)
  })
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return promise
}

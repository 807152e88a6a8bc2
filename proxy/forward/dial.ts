// Dials an application, or a destination without a sidecar, at the address that was asked for.
import { authorityOf } from '../../shared/addresses.ts'
import type { EndSignal } from '../../shared/ending.ts'
import { asPosternError, type Code, PosternError } from '../../shared/errors.ts'
import { connectTcp } from '../tcp/connect.ts'
import { isOwnShortage } from '../tcp/shortage.ts'
import type { ByteStream } from '../tunnel/byte-stream.ts'

export type DialOptions = {
  readonly signal: EndSignal
  /** The code of a failure. */
  readonly code?: Code
  readonly timeoutMs?: number
  /** The destination is on another host, which may vanish: four more system calls notice that. */
  readonly isRemote?: boolean
}

const TIMEOUT_MS = 10_000

/**
 * A connected socket, half-open: each direction ends on its own.
 * @throws PosternError `code`, or PSTN_LIMIT where this process has no descriptor or memory left for it.
 */
export function dial(
  { address, port }: { readonly address: string; readonly port: number },
  { signal, code = 'PSTN_APP_UNREACHABLE', timeoutMs = TIMEOUT_MS, isRemote = false }: DialOptions,
): Promise<ByteStream> {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>()
  const settle = () => {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
  const unreachable = (what: string, cause?: Error) => {
    settle()
    const why = `${authorityOf(address, port)}: ${what}`
    reject(new PosternError(isOwnShortage(cause) ? 'PSTN_LIMIT' : code, why, { cause }))
  }
  const giveUp = connectTcp(address, port, outcome => {
    if (outcome instanceof Error) return unreachable(outcome.message, outcome)
    settle()
    if (isRemote) outcome.keepAlive()
    resolve(outcome)
  })
  const onAbort = () => {
    settle()
    giveUp()
    reject(asPosternError(signal.reason, code))
  }
  const timer = setTimeout(() => {
    giveUp()
    unreachable(`no answer within ${timeoutMs} ms`)
  }, timeoutMs)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return promise
}

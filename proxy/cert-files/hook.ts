// Asks the application to take up its new files: one POST without a body to a port and path of the pod's own loopback. The
// address is a literal, so that no name can lead elsewhere, and redirects are not followed.
import { once } from 'node:events'
import { type IncomingMessage, request as requestHttp } from 'node:http'
import { authorityOf } from '../../shared/addresses.ts'
import type { Hook } from '../../shared/cert-files.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'

/** The second is for who listens on IPv6 alone. */
const LOOPBACK = ['127.0.0.1', '::1'] as const
const TIMEOUT_MS = 5_000

/** @throws PosternError PSTN_CERT_HOOK_FAILED unless the answer is 2xx, or the abort reason. */
export async function callHook(hook: Hook, signal: AbortSignal, timeoutMs = TIMEOUT_MS): Promise<void> {
  const timeout = AbortSignal.timeout(timeoutMs)
  const over = AbortSignal.any([signal, timeout])
  try {
    const status = await post(LOOPBACK[0], hook, over).catch(thrown => {
      if (codeOf(thrown) === 'ECONNREFUSED') return post(LOOPBACK[1], hook, over)
      throw thrown
    })
    if (status < 200 || status > 299) throw failed(`it answered with ${status}`)
  } catch (thrown) {
    signal.throwIfAborted()
    if (timeout.aborted) throw failed(`no answer within ${timeoutMs} ms`)
    throw asPosternError(thrown, 'PSTN_CERT_HOOK_FAILED')
  }
}

async function post(host: string, { port, path }: Hook, signal: AbortSignal): Promise<number> {
  const request = requestHttp({
    host,
    port,
    path,
    method: 'POST',
    agent: false,
    headers: {
      host: authorityOf(host, port),
      'user-agent': 'postern',
      'content-length': 0,
      connection: 'close',
    },
    signal,
  })
  try {
    const [{ statusCode = 0 }] = (await once(request.end(), 'response')) as [IncomingMessage]
    return statusCode
  } finally {
    request.on('error', () => {}).destroy()
  }
}

const failed = (reason: string): PosternError => new PosternError('PSTN_CERT_HOOK_FAILED', reason)

const codeOf = (thrown: unknown): unknown =>
  thrown instanceof Error && 'code' in thrown ? thrown.code : undefined

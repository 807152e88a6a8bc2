// The demo's legacy clients: one plain request on a new connection, and a response that stays open.
import { get, type IncomingMessage } from 'node:http'

export type Called =
  | { readonly status: number; readonly body: string }
  | { readonly status: 0; readonly error: string }

const TIMEOUT_MS = 5_000

/** Never throws: a refused connection is an answer too. */
export function call(url: string): Promise<Called> {
  const { promise, resolve } = Promise.withResolvers<Called>()
  const failed = (error: Error & { code?: string }) =>
    resolve({ status: 0, error: error.code ?? error.message })
  const request = get(url, { agent: false, timeout: TIMEOUT_MS }, response => {
    const chunks: Buffer[] = []
    response.on('data', chunk => chunks.push(chunk))
    response.on('error', failed)
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString().trim() }),
    )
  })
  request.on('timeout', () => request.destroy(new Error('timeout')))
  request.on('error', failed)
  return promise
}

/** Resolves when the first bytes of the body are there; `ended` when the connection is gone. */
export async function openStream(url: string): Promise<{ ended: Promise<void> }> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  get(url, { agent: false }, resolve).on('error', reject)
  const response = await promise
  const ended = new Promise<void>(done => response.on('close', done).on('error', () => done()))
  await new Promise(first => response.once('data', first))
  return { ended }
}

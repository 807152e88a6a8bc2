// One GET by https of something that others wrote, at a URL that others chose: bounded in size, nothing but the question is
// sent, and redirects are not followed, so that an endpoint cannot send us elsewhere.
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type RequestOptions, request } from 'node:https'
import type { PosternError } from '../errors.ts'

export type HttpsQuestion = {
  readonly url: string
  /** PEM, in place of the public web PKI. */
  readonly roots?: readonly string[] | undefined
  readonly lookup?: RequestOptions['lookup']
  /** Bytes of the answer. */
  readonly most: number
  readonly unreachable: (why: string) => PosternError
}

/** The text. @throws what `unreachable` makes, the signal's reason, or what sockets say. */
export async function getByHttps(question: HttpsQuestion, signal: AbortSignal): Promise<string> {
  const { url, roots, lookup, unreachable } = question
  // Interim answers, of which there may be any number before the one that is counted, and another protocol: after that the
  // client's `response` and `error` never come.
  const unasked = new AbortController()
  const ended = AbortSignal.any([signal, unasked.signal])
  const options: RequestOptions = {
    agent: false,
    minVersion: 'TLSv1.2',
    headers: { accept: 'application/json', 'accept-encoding': 'identity', connection: 'close' },
    signal: ended,
    ...(roots && { ca: [...roots] }),
    ...(lookup && { lookup }),
  }
  const call = request(url, options)
  const refuse = ({ statusCode }: { readonly statusCode?: number | undefined }) =>
    unasked.abort(unreachable(`it answered ${statusCode}, which nobody asked for`))
  call.on('information', refuse)
  call.on('upgrade', (response, socket) => {
    socket.destroy()
    refuse(response)
  })
  // What comes after the answer has begun is told to its reader.
  call.on('error', () => undefined)
  call.end()
  try {
    const [response] = (await once(call, 'response', { signal: ended })) as [IncomingMessage]
    checkHead(response, unreachable)
    return await read(response, question, ended)
  } catch (thrown) {
    unasked.signal.throwIfAborted()
    throw thrown
  } finally {
    call.destroy()
  }
}

function checkHead(
  { statusCode = 0, headers }: IncomingMessage,
  unreachable: HttpsQuestion['unreachable'],
): void {
  const { location, 'content-encoding': encoding = 'identity' } = headers
  if (statusCode >= 300 && statusCode < 400 && location !== undefined)
    throw unreachable(`it redirects (${statusCode}) to ${JSON.stringify(location.slice(0, 200))}`)
  if (statusCode !== 200) throw unreachable(`it answered ${statusCode}`)
  if (encoding !== 'identity') throw unreachable('its answer is encoded, which nobody asked for')
}

async function read(
  response: IncomingMessage,
  { most, unreachable }: HttpsQuestion,
  signal: AbortSignal,
): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response) {
    size += chunk.length
    if (size > most) throw unreachable(`its answer has more than ${most} bytes`)
    chunks.push(chunk)
  }
  // One that ends with its connection looks whole when we cut it off.
  signal.throwIfAborted()
  if (!response.complete) throw unreachable('its answer broke off')
  return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
}

// One question to a partner's bundle endpoint, profile https_web (SPIFFE Federation, 5.2.1.4). Whoever may write federation
// documents decides where it goes: an address of the cluster's own is no accident then. What limits a forged request is that
// only https with a certificate for that name is spoken, that nothing but the question is sent, and that redirects are not
// followed (the standard says should; who moves an endpoint tells its partners): an endpoint cannot send us elsewhere.
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type RequestOptions, request } from 'node:https'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { readPartnerBundle } from '../../shared/federation/bundle.ts'
import type { SpiffeBundle } from '../../shared/spiffe-bundle.ts'

export type EndpointQuestion = {
  readonly trustDomain: string
  readonly url: string
  /** PEM, in place of the public web PKI. */
  readonly roots?: readonly string[]
  /** Of our own trust domain: none of them may come back. */
  readonly ownRoots: readonly string[]
}

const FETCH_LIMITS = { bytes: 256 * 1024, ms: 10_000 } as const

/** @throws PosternError PSTN_PARTNER_UNREACHABLE, PSTN_PARTNER_INVALID; or the signal's reason. */
export async function fetchBundle(
  question: EndpointQuestion,
  signal: AbortSignal,
  limits: { readonly bytes: number; readonly ms: number } = FETCH_LIMITS,
): Promise<SpiffeBundle> {
  const { trustDomain, ownRoots } = question
  const late = AbortSignal.timeout(limits.ms)
  let text: string
  try {
    text = await ask(question, AbortSignal.any([signal, late]), limits.bytes)
  } catch (thrown) {
    signal.throwIfAborted()
    if (late.aborted) throw unreachable(`no whole answer within ${limits.ms / 1000} s`)
    const { message } = asPosternError(thrown, 'PSTN_PARTNER_UNREACHABLE')
    throw unreachable(message, thrown)
  }
  const bundle = readPartnerBundle(text, trustDomain)
  if (bundle.roots.some(root => ownRoots.includes(root)))
    throw new PosternError('PSTN_PARTNER_INVALID', 'it holds a root of this mesh itself')
  return bundle
}

async function ask({ url, roots }: EndpointQuestion, signal: AbortSignal, most: number): Promise<string> {
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
    checkHead(response)
    return await read(response, most, ended)
  } catch (thrown) {
    unasked.signal.throwIfAborted()
    throw thrown
  } finally {
    call.destroy()
  }
}

function checkHead({ statusCode = 0, headers }: IncomingMessage): void {
  const { location, 'content-encoding': encoding = 'identity' } = headers
  if (statusCode >= 300 && statusCode < 400 && location !== undefined)
    throw unreachable(`it redirects (${statusCode}) to ${JSON.stringify(location.slice(0, 200))}`)
  if (statusCode !== 200) throw unreachable(`it answered ${statusCode}`)
  if (encoding !== 'identity') throw unreachable('its answer is encoded, which nobody asked for')
}

async function read(response: IncomingMessage, most: number, signal: AbortSignal): Promise<string> {
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

const unreachable = (why: string, cause?: unknown): PosternError =>
  new PosternError('PSTN_PARTNER_UNREACHABLE', why, { cause })

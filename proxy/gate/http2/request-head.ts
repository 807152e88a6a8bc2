// A request of HTTP/2 as policies know it and as the application gets it: what two readers could take for two things is
// refused, the path is forwarded in the form in which it was authorized, and who calls is said by us alone.
import { normalizeHost } from '../../../shared/http/host.ts'
import { normalizePath } from '../../../shared/http/path.ts'
import type { HttpRequest } from '../../../shared/policy/model.ts'
import { RequestHeaders } from '../../../shared/policy/request-headers.ts'
import { checkTrailers, type RequestHead, readRequest } from '../../http2/fields.ts'
import type { Header } from '../../http2/header.ts'
import type { Authenticated } from '../interface.ts'
import { malformed, overLimit, upgradeRefused } from '../refusal.ts'
import { isForbiddenTrailer } from '../trailers.ts'
import { LIMITS } from './limits.ts'

export type GatedRequest = {
  readonly request: HttpRequest
  readonly forwarded: readonly Header[]
  /** Undefined where no length was told. */
  readonly contentLength: number | undefined
}

export type HeadOptions = {
  /** The value of x-forwarded-client-cert. */
  readonly clientCert: string | undefined
  /** The application takes extended CONNECT (RFC 8441). */
  readonly connectProtocol: boolean
}

const CLIENT_CERT = 'x-forwarded-client-cert'
/** What a gateway like CGI could make of another name: these decide where messages end and where they go. */
const NO_LOOKALIKES = new Set([
  'connection',
  'content-length',
  'expect',
  'host',
  'http2-settings',
  'transfer-encoding',
  'upgrade',
])

/** @throws Http2Error of the stream, PosternError */
export function readGatedRequest(
  headers: readonly Header[],
  streamId: number,
  options: HeadOptions,
): GatedRequest {
  if (headers.length > LIMITS.fields) throw overLimit(`more than ${LIMITS.fields} fields`)
  const head = readRequest(headers, streamId)
  const method = methodOf(head, options)
  const { fields, contentLength, host } = sortFields(head.fields)
  const authority = head.authority ?? host ?? ''
  const { path, target } = readTarget(head.path ?? '')
  const forwarded: Header[] = [
    [':method', head.method],
    [':scheme', head.scheme ?? ''],
    [':authority', authority],
    [':path', target],
  ]
  if (head.protocol !== undefined) forwarded.push([':protocol', head.protocol])
  forwarded.push(...fields)
  if (options.clientCert !== undefined) forwarded.push([CLIENT_CERT, options.clientCert])
  return { request: { method, host: normalizeHost(authority), path }, forwarded, contentLength }
}

/** As policies know them. Cookies may be divided into fields, and are one (RFC 9113, section 8.2.3). */
export function readHeaders(list: readonly Header[]): RequestHeaders {
  const headers = new RequestHeaders()
  const cookies: string[] = []
  for (const [name, value] of list)
    if (name === 'cookie') cookies.push(value)
    else if (!name.startsWith(':')) headers.add(name, value)
  if (cookies.length > 0) headers.add('cookie', cookies.join('; '))
  return headers
}

/** What is forwarded, once it is known whose request it is. */
export function withClaims(
  forwarded: readonly Header[],
  { removes, adds }: Authenticated,
): readonly Header[] {
  return [...forwarded.filter(([name]) => name.startsWith(':') || !removes(name)), ...adds]
}

/** The trailers as they are forwarded. @throws Http2Error of the stream, HttpRefusal */
export function readGatedTrailers(
  trailers: readonly Header[],
  streamId: number,
  isOurs: (name: string) => boolean = () => false,
): readonly Header[] {
  checkTrailers(trailers, streamId)
  for (const [name] of trailers)
    if (isForbiddenTrailer(name) || isOurs(name))
      throw malformed(`the trailer ${name}, which belongs into the head`)
  return trailers
}

/** WebSocket is a GET for policies, whichever version of HTTP carries it (RFC 8441, section 5). */
function methodOf({ method, protocol }: RequestHead, { connectProtocol }: HeadOptions): string {
  if (!/^[A-Z_-]{1,32}$/.test(method)) throw malformed('a method that is not in upper case')
  if (method !== 'CONNECT') return method
  if (protocol !== 'websocket')
    throw upgradeRefused(protocol === undefined ? 'CONNECT' : 'a protocol other than WebSocket')
  if (!connectProtocol) throw upgradeRefused('extended CONNECT, which the application does not offer')
  return 'GET'
}

function readTarget(sent: string): { readonly path: string; readonly target: string } {
  if (sent.length > LIMITS.pathBytes) throw overLimit(`a path of more than ${LIMITS.pathBytes} bytes`, 414)
  const query = sent.indexOf('?')
  const raw = query < 0 ? sent : sent.slice(0, query)
  const path = raw === '*' ? raw : normalizePath(raw)
  return { path, target: query < 0 ? path : path + sent.slice(query) }
}

/** What is forwarded; host has become `:authority`. */
function sortFields(sent: readonly Header[]) {
  let contentLength: number | undefined
  let host: string | undefined
  const fields = sent.filter(([name, value]) => {
    if (name === 'content-length') contentLength = Number(value)
    if (name === 'host') host = value
    return name !== 'host' && isForwarded(name)
  })
  return { fields, contentLength, host }
}

function isForwarded(name: string): boolean {
  if (!/[^0-9a-z-]/.test(name)) return name !== CLIENT_CERT
  const folded = name.replace(/[^0-9a-z]/g, '-')
  if (NO_LOOKALIKES.has(folded)) throw malformed(`a field name could be taken for ${folded}`)
  return folded !== CLIENT_CERT
}

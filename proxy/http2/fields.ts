// Whether a decoded header list is a well-formed message (RFC 9113, sections 8.2 and 8.3, RFC 8441), as strictly as the
// text allows: what one implementation repairs and another takes as it is, is how requests are smuggled.
import { ErrorCode, Http2Error } from './errors.ts'
import type { Header } from './header.ts'

export type RequestHead = {
  readonly method: string
  /** Only a plain CONNECT lacks scheme and path. */
  readonly scheme: string | undefined
  readonly authority: string | undefined
  readonly path: string | undefined
  /** Of an extended CONNECT. */
  readonly protocol: string | undefined
  /** What follows the pseudo-header fields. */
  readonly fields: readonly Header[]
}

/** @throws Http2Error of the stream: PROTOCOL_ERROR. */
export function readRequest(headers: readonly Header[], streamId: number): RequestHead {
  const { pseudo, fields } = readHead(headers, REQUEST_PSEUDO, streamId)
  const head: RequestHead = {
    method: pseudo.get(':method') ?? '',
    scheme: pseudo.get(':scheme'),
    authority: pseudo.get(':authority'),
    path: pseudo.get(':path'),
    protocol: pseudo.get(':protocol'),
    fields,
  }
  const wrong = wrongRequest(head)
  if (wrong !== undefined) throw malformed(wrong, streamId)
  return head
}

/** @throws Http2Error of the stream: PROTOCOL_ERROR. */
export function readResponse(
  headers: readonly Header[],
  streamId: number,
): { readonly status: number; readonly fields: readonly Header[] } {
  const { pseudo, fields } = readHead(headers, RESPONSE_PSEUDO, streamId)
  const status = pseudo.get(':status') ?? ''
  // 101 does not exist in HTTP/2 (section 8.6).
  if (!/^[1-5][0-9]{2}$/.test(status) || status === '101') throw malformed(':status', streamId)
  return { status: Number(status), fields }
}

/** A trailer section: fields, without pseudo-header fields. @throws Http2Error of the stream: PROTOCOL_ERROR. */
export function checkTrailers(trailers: readonly Header[], streamId: number): void {
  for (const header of trailers) checkField(header, streamId)
}

const REQUEST_PSEUDO = new Set([':method', ':scheme', ':authority', ':path', ':protocol'])
const RESPONSE_PSEUDO = new Set([':status'])
/** HTTP/1.1's, of one connection only (section 8.2.2). */
const CONNECTION_SPECIFIC = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])

function readHead(headers: readonly Header[], known: ReadonlySet<string>, streamId: number) {
  const pseudo = new Map<string, string>()
  let count = 0
  for (const [name, value] of headers) {
    if (name.charCodeAt(0) !== COLON) break
    if (!known.has(name) || pseudo.has(name)) throw malformed(name, streamId)
    if (!isFieldValue(value)) throw malformed(name, streamId)
    pseudo.set(name, value)
    count += 1
  }
  const fields = headers.slice(count)
  for (const header of fields) checkField(header, streamId)
  return { pseudo, fields }
}

/** Of what a peer sent, in a message that is logged. */
const SHOWN = 120

const malformed = (what: string, streamId: number) =>
  new Http2Error(ErrorCode.PROTOCOL_ERROR, `a malformed message: ${what.slice(0, SHOWN)}`, streamId)

function checkField([name, value]: Header, streamId: number): void {
  // A pseudo-header field that comes late is caught here: a colon is not allowed in a name.
  if (!isFieldName(name)) throw malformed(`the field name ${JSON.stringify(name)}`, streamId)
  if (CONNECTION_SPECIFIC.has(name) || (name === 'te' && value !== 'trailers'))
    throw malformed(name, streamId)
  if (!isFieldValue(value)) throw malformed(`the value of ${name}`, streamId)
}

/** What is wrong with it, if anything. */
function wrongRequest(head: RequestHead): string | undefined {
  if (!isToken(head.method)) return ':method'
  const target = head.method === 'CONNECT' ? wrongConnect(head) : wrongUrl(head)
  return target ?? wrongAuthority(head) ?? wrongLength(head.fields)
}

/** Sections 8.3.1 and 8.5, and RFC 8441, section 4. */
function wrongConnect(head: RequestHead): string | undefined {
  if (!head.authority) return 'a CONNECT without :authority'
  if (head.protocol !== undefined) return isToken(head.protocol) ? wrongUrl(head) : ':protocol'
  return head.scheme === undefined && head.path === undefined ? undefined : 'a CONNECT with :scheme or :path'
}

function wrongUrl({ method, scheme, path, protocol }: RequestHead): string | undefined {
  if (protocol !== undefined && method !== 'CONNECT') return ':protocol without CONNECT'
  if (scheme !== 'http' && scheme !== 'https') return ':scheme'
  if (path === '*') return method === 'OPTIONS' ? undefined : ':path'
  return path !== undefined && isPath(path) ? undefined : ':path'
}

/** `host` says the same as `:authority` or stands in for it; user information is not part of either. */
function wrongAuthority({ authority, fields }: RequestHead): string | undefined {
  const hosts = fields.filter(([name]) => name === 'host').map(([, value]) => value)
  if (hosts.length > 1) return 'more than one host'
  const [host] = hosts
  const named = authority ?? host
  if (!named || !isAuthority(named)) return 'no authority that is a host'
  return host === undefined || host.toLowerCase() === named.toLowerCase()
    ? undefined
    : 'host is not :authority'
}

function wrongLength(fields: readonly Header[]): string | undefined {
  const lengths = fields.filter(([name]) => name === 'content-length')
  const [length] = lengths
  if (length === undefined) return undefined
  return lengths.length === 1 && /^(?:0|[1-9][0-9]{0,14})$/.test(length[1]) ? undefined : 'content-length'
}

const COLON = 0x3a

/** RFC 9110's token; names without upper case (section 8.2.1). */
const isFieldName = (name: string): boolean => /^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)
const isToken = (text: string): boolean => /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(text)
/** RFC 9110, section 5.5: no control character but a tab, and no blank at either end. */
const isFieldValue = (value: string): boolean =>
  value === '' || /^[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?$/.test(value)
/** Visible ASCII without a fragment. */
const isPath = (path: string): boolean => /^\/[!"$-~]*$/.test(path)
const isAuthority = (text: string): boolean =>
  /^(?:[0-9A-Za-z._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/.test(text)

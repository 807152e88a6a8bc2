// One request head, from bytes to what must be known of it (RFC 9112, sections 3 and 6). What another reader could
// understand in another way is refused: the application must see the request that was authorized.
import { normalizeHost } from '../../../shared/http/host.ts'
import { normalizePath, normalizeQuery } from '../../../shared/http/path.ts'
import type { HttpRequest } from '../../../shared/policy/model.ts'
import { RequestHeaders } from '../../../shared/policy/request-headers.ts'
import type { Authenticated } from '../interface.ts'
import { malformed, overLimit, upgradeRefused } from '../refusal.ts'
import { contentLength, FieldReader, skip } from './fields.ts'
import { LIMITS } from './limits.ts'
import { CR, LF, METHOD, SP, TARGET } from './octets.ts'
import { readRequestTarget } from './request-target.ts'

export const INCOMPLETE = -1

const MAX_METHOD = 32
const VERSION_BYTES = 8
const NOTHING: readonly number[] = []
/**
 * What clients offer with every request of theirs (Java's own of h2c, Apache's of TLS), and go on without: a server may
 * ignore it (RFC 9110, section 7.8). The application never sees it, and so cannot accept.
 */
const OFFER = /^(?:h2c|tls\/1\.[0-9])$/

/** Reused for every request of a connection: each `read` forgets the last. */
export class RequestHead {
  request: HttpRequest = { method: '', host: '', path: '' }
  /** The target in the form in which it is forwarded, where that is not how it came. */
  rewrittenTarget: string | undefined
  /** Where the fields begin, behind the request line. */
  fieldsStart = 0
  end = 0
  /** Pairs of start and end: lines that are not forwarded. */
  removed: readonly number[] = NOTHING
  isHttp10 = false
  chunked = false
  /** Undefined where no length was told. */
  length: number | undefined
  webSocket = false
  expectsContinue = false
  /** The caller sends no further request. */
  last = false

  readonly #fields = new FieldReader()
  #host: string | undefined
  #normalHost = ''
  #connection = ''
  #upgrade: string | undefined
  #http2Settings: string | undefined
  #expect: string | undefined

  /** The index behind the head that begins at `start`, or INCOMPLETE. @throws PosternError HttpRefusal where the status is not 400 */
  read(bytes: Buffer, start: number): number {
    this.#forget()
    const methodEnd = this.#readMethod(bytes, start)
    if (methodEnd === INCOMPLETE) return INCOMPLETE
    const targetEnd = this.#readTarget(bytes, start, methodEnd + 1)
    if (targetEnd === INCOMPLETE) return INCOMPLETE
    const versionEnd = this.#readVersion(bytes, targetEnd + 1)
    if (versionEnd === INCOMPLETE) return INCOMPLETE
    const end = this.#readFields(bytes, start, versionEnd)
    if (end === INCOMPLETE) return INCOMPLETE
    this.end = end
    this.#conclude(
      bytes.toString('latin1', start, methodEnd),
      bytes.toString('latin1', methodEnd + 1, targetEnd),
    )
    return end
  }

  /** Of the head that was read last, while its bytes are there; as the application gets them, where it is known whose request it is. */
  headers(bytes: Buffer, found?: Authenticated): RequestHeaders {
    const headers = new RequestHeaders()
    const fields = new FieldReader()
    for (let at = this.fieldsStart; fields.next(bytes, at) === 'field'; at = fields.end)
      if (!found?.removes(fields.name(bytes))) headers.add(fields.name(bytes), fields.text(bytes))
    for (const [name, value] of found?.adds ?? []) headers.add(name, value)
    return headers
  }

  /** Lines that are not forwarded either, and names that nobody may have removed on the way. @throws HttpRefusal */
  remove(bytes: Buffer, names: (name: string) => boolean, kept: readonly string[]): void {
    const lines: [start: number, end: number][] = []
    for (let i = 0; i + 1 < this.removed.length; i += 2)
      lines.push([this.removed[i] ?? 0, this.removed[i + 1] ?? 0])
    const known = new Set(lines.map(([start]) => start))
    const fields = new FieldReader()
    for (let at = this.fieldsStart; fields.next(bytes, at) === 'field'; at = fields.end)
      if (!known.has(fields.start) && names(fields.name(bytes))) lines.push([fields.start, fields.end])
    this.removed = lines.sort(([one], [other]) => one - other).flat()
    if (this.#connection === '') return
    const listed = connectionOptions(this.#connection.toLowerCase())
    const taken = listed.find(option => names(option) || kept.includes(option))
    if (taken !== undefined) throw malformed(`connection lists ${taken}`)
  }

  get hasBody(): boolean {
    return this.chunked || (this.length !== undefined && this.length > 0)
  }

  #forget(): void {
    this.rewrittenTarget = undefined
    this.removed = NOTHING
    this.chunked = false
    this.length = undefined
    this.webSocket = false
    this.expectsContinue = false
    this.last = false
    this.#host = undefined
    this.#connection = ''
    this.#upgrade = undefined
    this.#http2Settings = undefined
    this.#expect = undefined
    this.#fields.reset()
  }

  #readMethod(bytes: Buffer, start: number): number {
    const i = skip(METHOD, bytes, start)
    if (i - start > MAX_METHOD) throw malformed('the method is too long')
    if (i === bytes.length) return INCOMPLETE
    if (bytes[i] !== SP || i === start) throw malformed('no method in upper case begins the request')
    return i
  }

  #readTarget(bytes: Buffer, start: number, at: number): number {
    const i = skip(TARGET, bytes, at)
    if (i - start > LIMITS.requestLineBytes)
      throw overLimit(`the request line is longer than ${LIMITS.requestLineBytes} bytes`, 414)
    if (i === bytes.length) return INCOMPLETE
    if (bytes[i] !== SP || i === at) throw malformed('the request line is not method, target and version')
    return i
  }

  #readVersion(bytes: Buffer, at: number): number {
    const end = at + VERSION_BYTES
    if (end + 2 > bytes.length) {
      if (!'HTTP/'.startsWith(bytes.toString('latin1', at, Math.min(at + 5, bytes.length))))
        throw malformed('the request line does not end with a version')
      return INCOMPLETE
    }
    const version = bytes.toString('latin1', at, end)
    if (version !== 'HTTP/1.1' && version !== 'HTTP/1.0') throw wrongVersion(version)
    if (bytes[end] !== CR || bytes[end + 1] !== LF) throw malformed('the request line does not end with CRLF')
    this.isHttp10 = version === 'HTTP/1.0'
    this.fieldsStart = end + 2
    return this.fieldsStart
  }

  #readFields(bytes: Buffer, start: number, fieldsStart: number): number {
    const fields = this.#fields
    let at = fieldsStart
    for (;;) {
      const line = fields.next(bytes, at)
      const end = line === 'incomplete' ? bytes.length : fields.end
      if (end - start > LIMITS.headBytes) throw overLimit(`the head is longer than ${LIMITS.headBytes} bytes`)
      if (line === 'incomplete') return INCOMPLETE
      if (line === 'end') return end
      if (fields.known !== undefined) this.#take(bytes, fields)
      at = end
    }
  }

  #take(bytes: Buffer, fields: FieldReader): void {
    const name = fields.known
    if (name === 'x-forwarded-client-cert') {
      this.#remove(fields)
      return
    }
    if (fields.lookalike) throw malformed(`a field name could be taken for ${name}`)
    const value = fields.value(bytes)
    switch (name) {
      case 'host':
        this.#host = once(name, this.#host, value)
        break
      case 'content-length':
        this.length = once(name, this.length, contentLength(value))
        break
      case 'transfer-encoding':
        if (this.chunked || value.toLowerCase() !== 'chunked')
          throw malformed('transfer-encoding is not chunked, once')
        this.chunked = true
        break
      // What no standard knows, Node obeys.
      case 'proxy-connection':
      case 'connection':
        this.#connection = this.#connection === '' ? value : `${this.#connection},${value}`
        break
      case 'upgrade':
        this.#upgrade = once(name, this.#upgrade, value.toLowerCase())
        if (OFFER.test(this.#upgrade)) this.#remove(fields)
        break
      case 'expect':
        this.#expect = once(name, this.#expect, value)
        break
      case 'http2-settings':
        this.#http2Settings = once(name, this.#http2Settings, value)
        this.#remove(fields)
        break
      default:
        throw malformed(`unexpected ${name}`)
    }
  }

  #remove({ start, end }: FieldReader): void {
    this.removed = [...this.removed, start, end]
  }

  #conclude(method: string, target: string): void {
    if (this.chunked && this.length !== undefined) throw malformed('content-length and transfer-encoding')
    if (this.chunked && this.isHttp10) throw malformed('transfer-encoding in HTTP/1.0')
    if (method === 'CONNECT') throw upgradeRefused('CONNECT')
    this.request = { method, ...this.#route(method, target) }
    this.#persistence()
    this.#switching(method)
    if (this.#expect !== undefined) {
      if (this.#expect.toLowerCase() !== '100-continue' || this.isHttp10)
        throw malformed('an expectation other than 100-continue', 417)
      this.expectsContinue = true
    }
  }

  #route(method: string, target: string): { host: string; path: string } {
    const host = this.#hostOf()
    if (target === '*') {
      if (method !== 'OPTIONS') throw malformed('the target * is for OPTIONS alone')
      return { host, path: target }
    }
    const origin = readRequestTarget(target, this.#host)
    const question = origin.indexOf('?')
    const path = normalizePath(question < 0 ? origin : origin.slice(0, question))
    const normal = question < 0 ? path : path + normalizeQuery(origin.slice(question))
    if (normal !== target) this.rewrittenTarget = normal
    return { host, path }
  }

  /** Callers repeat themselves: the last host is not normalized again. */
  #hostOf(): string {
    if (this.#host === undefined) {
      if (!this.isHttp10) throw malformed('no host')
      return ''
    }
    if (this.#host !== this.#lastHost) {
      this.#normalHost = normalizeHost(this.#host)
      this.#lastHost = this.#host
    }
    return this.#normalHost
  }
  #lastHost: string | undefined

  #persistence(): void {
    const options = this.#connection.toLowerCase()
    if (options === '') this.last = this.isHttp10
    else if (options === 'keep-alive') this.last = false
    else if (options === 'close') this.last = true
    else {
      const listed = connectionOptions(options)
      this.last = listed.includes('close') || (this.isHttp10 && !listed.includes('keep-alive'))
    }
  }

  #switching(method: string): void {
    if (this.#http2Settings !== undefined && this.#upgrade !== 'h2c')
      throw upgradeRefused('http2-settings without an offer of h2c')
    if (this.#upgrade === undefined || OFFER.test(this.#upgrade)) return
    if (this.#upgrade !== 'websocket') throw upgradeRefused('an upgrade to something else than websocket')
    if (method !== 'GET' || this.isHttp10 || this.hasBody || this.length !== undefined)
      throw upgradeRefused('an upgrade by something else than a GET of HTTP/1.1 without a body')
    if (!/(?:^|[, \t])upgrade(?:$|[, \t])/.test(this.#connection.toLowerCase()))
      throw upgradeRefused('an upgrade that connection does not list')
    this.webSocket = true
  }
}

function once<T>(name: string, before: T | undefined, value: T): T {
  if (before !== undefined) throw malformed(`more than one ${name}`)
  return value
}

/** Fields that nobody may have removed on the way by listing them. */
const NOT_HOP_BY_HOP =
  /^(?:host|content.length|transfer.encoding|x.forwarded.client.cert|expect|cookie|authorization)$/

function connectionOptions(text: string): readonly string[] {
  const options = text.split(',').map(option => option.replace(/^[ \t]+|[ \t]+$/g, ''))
  for (const option of options) {
    if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(option)) throw malformed('connection is not a list of tokens')
    if (NOT_HOP_BY_HOP.test(option)) throw malformed(`connection lists ${option}`)
    if (/.close|close.|.keep-alive|keep-alive./.test(option))
      throw malformed('connection has an option that could be taken for another')
  }
  if (options.includes('close') && options.includes('keep-alive'))
    throw malformed('connection asks for close and keep-alive')
  return options
}

function wrongVersion(version: string): Error {
  if (version === 'HTTP/2.0') return malformed('HTTP/2 on a port that is declared http1', 505)
  if (/^HTTP\/[0-9]\.[0-9]$/.test(version)) return malformed(`the version is ${version}`, 505)
  return malformed('the request line does not end with a version')
}

// Reads the lines of fields of a head, strictly, in one pass over the bytes: no text is made of what nobody asks for.
// RFC 9112, section 5, without every leniency: exactly CRLF, no folding, no space before the colon.
import { malformed, overLimit } from '../refusal.ts'
import { LIMITS } from './limits.ts'
import { COLON, CR, FOLDED, HTAB, LF, SP, TEXT, TOKEN } from './octets.ts'

/** The fields that decide where messages end and where they go. */
const KNOWN = [
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'proxy-connection',
  'upgrade',
  'expect',
  'http2-settings',
  'x-forwarded-client-cert',
] as const

export type KnownField = (typeof KNOWN)[number]

const BY_LENGTH = Array.from({ length: 24 }, (_, length) =>
  KNOWN.filter(name => name.length === length).map(name => ({ name, bytes: Buffer.from(name) })),
)

/** One field line, valid until the next is read. */
export class FieldReader {
  /** Undefined for the fields that only pass through. */
  known: KnownField | undefined
  /** Known, but written with another sign for the hyphen: some applications take it for the same. */
  lookalike = false
  start = 0
  valueStart = 0
  valueEnd = 0
  /** Behind the line, or behind the empty line that ends the fields. */
  end = 0
  count = 0

  reset(): void {
    this.count = 0
  }

  /** Reads the line at `at`. `incomplete`: `bytes` end before the line does. @throws HttpRefusal */
  next(bytes: Buffer, at: number): 'field' | 'end' | 'incomplete' {
    const nameEnd = skip(TOKEN, bytes, at)
    if (nameEnd === bytes.length) return 'incomplete'
    if (nameEnd === at) return this.#emptyLine(bytes, at)
    if (bytes[nameEnd] !== COLON) throw malformed('a field name is not a token followed by a colon')
    const textEnd = skip(TEXT, bytes, nameEnd + 1)
    if (textEnd === bytes.length) return 'incomplete'
    if (bytes[textEnd] !== CR) throw malformed('a field value has a control character, or no CRLF behind it')
    if (textEnd + 1 === bytes.length) return 'incomplete'
    if (bytes[textEnd + 1] !== LF) throw malformed('a field value has a carriage return')

    this.count += 1
    if (this.count > LIMITS.fields) throw overLimit(`more than ${LIMITS.fields} fields`)
    this.start = at
    this.valueStart = nameEnd + 1
    this.valueEnd = textEnd
    this.end = textEnd + 2
    this.#recognize(bytes, at, nameEnd)
    return 'field'
  }

  /** Of a known field, without the blanks around it. Not the tabs that RFC 9110 allows too: nginx takes them for the value's. */
  value(bytes: Buffer): string {
    let start = this.valueStart
    let end = this.valueEnd
    while (start < end && bytes[start] === SP) start += 1
    while (end > start && bytes[end - 1] === SP) end -= 1
    return bytes.toString('latin1', start, end)
  }

  name(bytes: Buffer): string {
    return bytes.toString('latin1', this.start, this.valueStart - 1)
  }

  /** As it stands behind the colon. */
  text(bytes: Buffer): string {
    return bytes.toString('latin1', this.valueStart, this.valueEnd)
  }

  #emptyLine(bytes: Buffer, at: number): 'end' | 'incomplete' {
    if (isBlank(bytes[at])) throw malformed('a line begins with a blank: folded lines are refused')
    if (bytes[at] !== CR) throw malformed('a field name has a character that is none of a token')
    if (at + 1 === bytes.length) return 'incomplete'
    if (bytes[at + 1] !== LF) throw malformed('a carriage return stands alone')
    this.end = at + 2
    return 'end'
  }

  #recognize(bytes: Buffer, start: number, end: number): void {
    this.known = undefined
    this.lookalike = false
    const candidates = BY_LENGTH[end - start]
    if (candidates === undefined) return
    for (const candidate of candidates) {
      if (!foldsTo(candidate.bytes, bytes, start)) continue
      this.known = candidate.name
      this.lookalike = !isExact(candidate.bytes, bytes, start)
    }
  }
}

/** The first index from `at` on whose byte is not of `allowed`, or the length. */
export function skip(allowed: Uint8Array, bytes: Buffer, at: number): number {
  let i = at
  while (i < bytes.length && allowed[bytes[i] ?? 0] === 1) i += 1
  return i
}

function foldsTo(name: Buffer, bytes: Buffer, start: number): boolean {
  for (let i = 0; i < name.length; i += 1) if (FOLDED[bytes[start + i] ?? 0] !== name[i]) return false
  return true
}

function isExact(name: Buffer, bytes: Buffer, start: number): boolean {
  for (let i = 0; i < name.length; i += 1) if (name[i] === HYPHEN && bytes[start + i] !== HYPHEN) return false
  return true
}

const HYPHEN = 0x2d

const isBlank = (byte: number | undefined): boolean => byte === SP || byte === HTAB

/** RFC 9110, section 8.6, digits alone: no sign, no list, no leading zero that something may take for octal. */
export function contentLength(text: string): number {
  if (!/^(?:0|[1-9][0-9]{0,15})$/.test(text)) throw malformed('content-length is not one plain number')
  const length = Number(text)
  if (!Number.isSafeInteger(length)) throw malformed('content-length is too large')
  return length
}

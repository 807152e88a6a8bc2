// One form for every path, so that what a policy matched is what the application is asked for. What readers disagree
// about (encoded slashes, backslashes, a way above the root …) is refused instead of guessed. RFC 3986, section 6.2.2.
import { PosternError } from '../errors.ts'

/** Segments that begin with no dot, of characters that stay as they are: the path of nearly every request. */
const NORMAL = /^(?:\/(?![/.])[A-Za-z0-9\-._~!$&'()*+,=:@]*)+$/
const UNRESERVED = /[A-Za-z0-9\-._~]/
/** What a path may hold beside `%` and `/` (RFC 3986, pchar). */
const PCHAR = /[A-Za-z0-9\-._~!$&'()*+,;=:@]/
/** UTF-8 of two and more bytes for what has fewer: `%C0%AF` is a slash to some decoders. */
const OVERLONG = /%(?:C[01]|E0%[89]|F0%8)/

/**
 * The normal form of an absolute path without its query: unreserved characters decoded once, other bytes in upper-case
 * percent-encoding, no dot segments, no empty segments. One character of `path` is one byte. Idempotent.
 * @throws PosternError PSTN_HTTP_MALFORMED
 */
export function normalizePath(path: string): string {
  if (NORMAL.test(path)) return path
  if (!path.startsWith('/')) throw refused('does not begin with a slash')
  const encoded = path.replace(/%.{0,2}|[^/%]/gs, canonicalCharacter)
  if (OVERLONG.test(encoded)) throw refused('has an overlong UTF-8 sequence')
  return withoutDotSegments(encoded)
}

/** A query stays as it is, but for raw bytes above ASCII, which some servers refuse and others decode. */
export function normalizeQuery(query: string): string {
  return query.replace(/[\x80-\xff]/g, percentEncoded)
}

/**
 * How else an application may read a normalized path: without `;parameters` as servlet containers do, and with the
 * reserved characters decoded. Undefined where there is no other way. What is allowed must be allowed both ways.
 */
export function otherReading(path: string): string | undefined {
  if (!path.includes('%') && !path.includes(';')) return undefined
  const other = path
    .replace(/;[^/]*/g, '')
    .replace(/%(?:2[146789ABC]|3[AD]|40)/g, triplet => characterOf(triplet))
    .replace(/\/{2,}/g, '/')
  return other === path ? undefined : other
}

function canonicalCharacter(text: string): string {
  if (text.length === 1) return canonicalByte(text)
  if (!/^%[0-9A-Fa-f]{2}$/.test(text)) throw refused('has a percent sign without two hexadecimal digits')
  const character = characterOf(text)
  if (UNRESERVED.test(character)) return character
  if (isControl(character)) throw refused('has an encoded control character')
  if (/[/\\;]/.test(character))
    throw refused(`has an encoded ${character}, which applications read differently`)
  return text.toUpperCase()
}

function canonicalByte(character: string): string {
  if (PCHAR.test(character)) return character
  if (character > '\xff' || isControl(character) || /[ #?%\\]/.test(character))
    throw refused(`has the character ${JSON.stringify(character)}`)
  return percentEncoded(character)
}

const percentEncoded = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`

function withoutDotSegments(path: string): string {
  const [, ...segments] = path.split('/')
  const kept: string[] = []
  for (const segment of segments) {
    if (/^\.\.?;/.test(segment)) throw refused('has a dot segment with parameters')
    if (segment === '..' && kept.pop() === undefined) throw refused('leads above the root')
    if (segment !== '' && segment !== '.' && segment !== '..') kept.push(segment)
  }
  const isDirectory = /^\.{0,2}$/.test(segments.at(-1) ?? '')
  return `/${kept.join('/')}${isDirectory && kept.length > 0 ? '/' : ''}`
}

const characterOf = (triplet: string): string => String.fromCharCode(Number.parseInt(triplet.slice(1), 16))

const isControl = (character: string): boolean => character < ' ' || character === '\x7f'

const refused = (why: string): PosternError => new PosternError('PSTN_HTTP_MALFORMED', `the path ${why}`)

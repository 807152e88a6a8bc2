// A strict reader and a small writer of DER (X.690, section 10), enough for the few structures that a sidecar reads.
// An X.509 library costs each sidecar 17 MB; these lines are fuzzed and cross-checked with OpenSSL instead.
// The reader takes one level at a time and never calls itself, so that nesting in the input cannot grow the stack.

export class DerError extends Error {
  override readonly name = 'DerError'
}

/** One tag-length-value. `content` and `raw` are views into the bytes that were read. */
export type DerValue = {
  /** The identifier octet: class, constructed bit and number (below 31). */
  readonly tag: number
  readonly content: Buffer
  /** Identifier, length and content. */
  readonly raw: Buffer
}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** The identifier octet of context tag `[number]`. */
export const contextTag = (number: number, constructed = false): number =>
  0x80 | (constructed ? 0x20 : 0) | number

const MAX_VALUES = 1024

/** Exactly one value that fills `bytes`. @throws DerError */
export function readDer(bytes: Buffer, tag?: number): DerValue {
  const value = readAt(bytes, 0)
  if (value.raw.length !== bytes.length) throw new DerError('bytes after the value')
  return tag === undefined ? value : expectTag(value, tag)
}

/** The values inside a constructed value of the given tag. @throws DerError */
export function readInside(value: DerValue | undefined, tag: number): DerValue[] {
  const { content } = expectTag(value, tag)
  const values: DerValue[] = []
  for (let offset = 0; offset < content.length; ) {
    if (values.length === MAX_VALUES) throw new DerError(`more than ${MAX_VALUES} values in one`)
    const next = readAt(content, offset)
    values.push(next)
    offset += next.raw.length
  }
  return values
}

/** The content of a value that must be there with this tag. @throws DerError */
export const contentOf = (value: DerValue | undefined, tag: number): Buffer => expectTag(value, tag).content

function expectTag(value: DerValue | undefined, tag: number): DerValue {
  if (!value) throw new DerError(`tag ${hex(tag)} is missing`)
  if (value.tag !== tag) throw new DerError(`tag ${hex(value.tag)} in place of ${hex(tag)}`)
  return value
}

function readAt(bytes: Buffer, offset: number): DerValue {
  const tag = byteAt(bytes, offset)
  if ((tag & 0x1f) === 0x1f) throw new DerError('tags of more than one byte are not used in X.509')
  const { length, start } = readLength(bytes, offset + 1)
  const end = start + length
  if (end > bytes.length) throw new DerError(`a length of ${length} reaches behind the end`)
  return { tag, content: bytes.subarray(start, end), raw: bytes.subarray(offset, end) }
}

// X.690, 10.1: definite form, in the fewest bytes.
function readLength(bytes: Buffer, offset: number): { length: number; start: number } {
  const first = byteAt(bytes, offset)
  if (first < 0x80) return { length: first, start: offset + 1 }
  const count = first & 0x7f
  if (count === 0) throw new DerError('indefinite length')
  if (count > 4) throw new DerError('a length of more than four bytes')
  let length = 0
  for (let index = 1; index <= count; index += 1) length = length * 256 + byteAt(bytes, offset + index)
  if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError('a length in more bytes than needed')
  return { length, start: offset + 1 + count }
}

function byteAt(bytes: Buffer, offset: number): number {
  const byte = bytes[offset]
  if (byte === undefined) throw new DerError('the input ends within a value')
  return byte
}

const hex = (tag: number): string => `0x${tag.toString(16).padStart(2, '0')}`

/** TRUE only: DER leaves out a default FALSE, but issuers write it, so both are read. @throws DerError */
export function readBoolean(value: DerValue | undefined): boolean {
  const content = contentOf(value, TAG.boolean)
  if (content.length !== 1 || (content[0] !== 0x00 && content[0] !== 0xff)) {
    throw new DerError('a BOOLEAN that is neither 0x00 nor 0xff')
  }
  return content[0] === 0xff
}

/** The two's-complement bytes of an INTEGER, checked to be minimal. @throws DerError */
export function readInteger(value: DerValue | undefined): Buffer {
  const content = contentOf(value, TAG.integer)
  const [first, second] = content
  if (first === undefined) throw new DerError('an INTEGER without bytes')
  if (second !== undefined && ((first === 0x00 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    throw new DerError('an INTEGER in more bytes than needed')
  }
  return content
}

/** A BIT STRING's bytes; unused bits must be zero (X.690, 11.2.1). @throws DerError */
export function readBitString(value: DerValue | undefined): { bytes: Buffer; unusedBits: number } {
  const content = contentOf(value, TAG.bitString)
  const unusedBits = byteAt(content, 0)
  const bytes = content.subarray(1)
  if (unusedBits > 7 || (unusedBits > 0 && bytes.length === 0)) {
    throw new DerError('a BIT STRING with impossible unused bits')
  }
  const last = bytes.at(-1) ?? 0
  if ((last & ((1 << unusedBits) - 1)) !== 0) throw new DerError('a BIT STRING with unused bits that are set')
  return { bytes, unusedBits }
}

const MAX_OID_BYTES = 64

/** An OBJECT IDENTIFIER in dotted form. @throws DerError */
export function readOid(value: DerValue | undefined): string {
  const content = contentOf(value, TAG.oid)
  if (content.length === 0 || content.length > MAX_OID_BYTES)
    throw new DerError('an OID of impossible length')
  if (content.readUInt8(content.length - 1) >= 0x80) throw new DerError('an OID that ends within an arc')
  const arcs: bigint[] = []
  let arc = 0n
  let fresh = true
  for (const byte of content) {
    if (fresh && byte === 0x80) throw new DerError('an OID arc in more bytes than needed')
    arc = (arc << 7n) | BigInt(byte & 0x7f)
    fresh = byte < 0x80
    if (!fresh) continue
    arcs.push(arc)
    arc = 0n
  }
  const [head = 0n, ...rest] = arcs
  const root = head < 80n ? head / 40n : 2n
  return [root, head - root * 40n, ...rest].join('.')
}

/** UTCTime or GeneralizedTime, in the only forms of RFC 5280, 4.1.2.5: seconds and Z. @throws DerError */
export function readTime(value: DerValue | undefined): Date {
  const utc = value?.tag === TAG.utcTime
  const text = contentOf(value, utc ? TAG.utcTime : TAG.generalizedTime).toString('latin1')
  const parts = (
    utc ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/ : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
  ).exec(text)
  if (!parts) throw new DerError('a time that is not in the form of RFC 5280')
  const [, year = '', month = '', day = '', hour = '', minute = '', second = ''] = parts
  const century = utc ? (Number(year) < 50 ? '20' : '19') : ''
  const iso = `${century}${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`
  const date = new Date(iso)
  // Date rolls the 31st of June over to July: only a real date reads back as itself.
  if (Number.isNaN(date.getTime()) || date.toISOString() !== iso)
    throw new DerError('a time that does not exist')
  return date
}

/** One value with the content's parts joined. */
export function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([tag]), lengthOf(content.length), content])
}

function lengthOf(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length])
  const bytes: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return Buffer.from([0x80 | bytes.length, ...bytes])
}

/** An OBJECT IDENTIFIER from its dotted form. */
export function derOid(dotted: string): Buffer {
  const [first = 0n, second = 0n, ...rest] = dotted.split('.').map(BigInt)
  return der(TAG.oid, Buffer.from([first * 40n + second, ...rest].flatMap(base128)))
}

function base128(arc: bigint): number[] {
  const bytes = [Number(arc & 0x7fn)]
  for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) bytes.unshift(Number(rest & 0x7fn) | 0x80)
  return bytes
}

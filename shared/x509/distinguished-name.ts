// A certificate's subject as text, in the one form in which two names are compared: RFC 4514, as `openssl x509 -nameopt RFC2253`
// writes it. What has no certain form in it has no text, and is nobody.
import { DerError, type DerValue, readDer, readInside, readOid, TAG } from './der.ts'

/** Those of RFC 4514, section 3, and the two more that OpenSSL names and certificates have. */
const NAMES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'street',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '0.9.2342.19200300.100.1.1': 'UID',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'emailAddress',
}

/** UTF8String, PrintableString and IA5String: the same bytes are the same text. */
const TEXTS: ReadonlySet<number> = new Set([0x0c, 0x13, 0x16])

/** @param name DER. Undefined if it is empty, or has an attribute or a string of another kind. */
export function distinguishedName(name: Buffer): string | undefined {
  try {
    const relative = readInside(readDer(name), TAG.sequence).map(relativeName)
    return relative.length === 0 || relative.includes(undefined) ? undefined : relative.reverse().join(',')
  } catch (thrown) {
    if (thrown instanceof DerError) return undefined
    throw thrown
  }
}

/** One attribute: of several in a set, the order is another one in each tool. */
function relativeName(set: DerValue): string | undefined {
  const [attribute, ...more] = readInside(set, TAG.set)
  const [type, value, ...rest] = readInside(attribute, TAG.sequence)
  if (more.length > 0 || rest.length > 0 || !value || !TEXTS.has(value.tag)) return undefined
  const known = NAMES[readOid(type)]
  return known && value.content.length > 0 ? `${known}=${escaped(value.content)}` : undefined
}

/** RFC 4514, section 2.4; every byte that is no printable ASCII as two digits. */
function escaped(bytes: Buffer): string {
  const last = bytes.length - 1
  return Array.from(bytes, (byte, index) => {
    if (byte < 0x20 || byte > 0x7e) return `\\${byte.toString(16).toUpperCase().padStart(2, '0')}`
    const letter = String.fromCharCode(byte)
    const isEdge = (letter === ' ' && (index === 0 || index === last)) || (letter === '#' && index === 0)
    return isEdge || ',+"\\<>;'.includes(letter) ? `\\${letter}` : letter
  }).join('')
}

// Which bytes may stand where in HTTP/1.1 (RFC 9110, section 5.6.2; RFC 9112), as tables: a look-up for each byte of a head.

export const CR = 0x0d
export const LF = 0x0a
export const SP = 0x20
export const HTAB = 0x09
export const COLON = 0x3a

const table = (allowed: RegExp): Uint8Array =>
  Uint8Array.from({ length: 256 }, (_, code) => (allowed.test(String.fromCharCode(code)) ? 1 : 0))

/** Of a field name. */
export const TOKEN = table(/[!#$%&'*+\-.^_`|~0-9A-Za-z]/)
/** Of a field value or reason phrase: no control character but the tab. */
export const TEXT = table(/[\t\x20-\x7e\x80-\xff]/)
/** Of a request target before it is normalized. */
export const TARGET = table(/[\x21-\x7e\x80-\xff]/)
/** Of a method. Methods are case-sensitive, and some applications do not know it: only upper case. */
export const METHOD = table(/[A-Z_-]/)

/** Letters in lower case; what is neither letter nor digit is a hyphen, as gateways like CGI make them one. */
export const FOLDED = Uint8Array.from({ length: 256 }, (_, code) => {
  const character = String.fromCharCode(code)
  return (/[0-9A-Za-z]/.test(character) ? character.toLowerCase() : '-').charCodeAt(0)
})

/** -1: no hexadecimal digit. */
export const HEX = Int8Array.from({ length: 256 }, (_, code) => {
  const digit = '0123456789abcdef'.indexOf(String.fromCharCode(code).toLowerCase())
  return digit
})

// The end of a chunked body, found by a machine that accepts the grammar of RFC 9112, section 7.1, and nothing beside it: no
// blanks, no bare line feeds, no size that overflows. Data is skipped, never copied.
import { malformed, overLimit } from '../refusal.ts'
import { LIMITS } from './limits.ts'
import { COLON, CR, HEX, LF, TEXT, TOKEN } from './octets.ts'

type State =
  | 'size'
  | 'extension-name'
  | 'extension-value'
  | 'quoted'
  | 'after-quoted'
  | 'size-lf'
  | 'data'
  | 'data-cr'
  | 'data-lf'
  | 'trailer-start'
  | 'trailer-name'
  | 'trailer-value'
  | 'trailer-lf'
  | 'end-lf'
  | 'done'

const SEMICOLON = 0x3b
const EQUALS = 0x3d
const QUOTE = 0x22
const BACKSLASH = 0x5c
const MAX_DIGITS = 16

export class ChunkedReader {
  readonly #isForbiddenTrailer: ((name: string) => boolean) | undefined
  #state: State = 'size'
  #size = 0
  #digits = 0
  /** Bytes of the extension's name or value that is being read. */
  #word = 0
  #lineBytes = 0
  #extensionBytes = 0
  #trailerBytes = 0
  #trailers = 0
  #name = ''

  constructor(isForbiddenTrailer?: (name: string) => boolean) {
    this.#isForbiddenTrailer = isForbiddenTrailer
  }

  get done(): boolean {
    return this.#state === 'done'
  }

  /** The index behind the part of `bytes` from `at` on that belongs to the body. @throws HttpRefusal */
  consume(bytes: Buffer, at: number): number {
    let i = at
    while (i < bytes.length && this.#state !== 'done') {
      if (this.#state === 'data') {
        const taken = Math.min(this.#size, bytes.length - i)
        this.#size -= taken
        i += taken
        if (this.#size === 0) this.#state = 'data-cr'
      } else {
        this.#state = this.#step(bytes[i] ?? 0)
        i += 1
      }
    }
    return i
  }

  #step(byte: number): State {
    switch (this.#state) {
      case 'size':
        return this.#inSize(byte)
      case 'extension-name':
      case 'extension-value':
      case 'quoted':
      case 'after-quoted':
        return this.#inExtension(byte)
      case 'size-lf':
        return this.#afterSizeLine(byte)
      case 'data-cr':
        return expect(byte, CR, 'data-lf')
      case 'data-lf':
        return expect(byte, LF, 'size')
      case 'end-lf':
        return expect(byte, LF, 'done')
      default:
        return this.#inTrailers(byte)
    }
  }

  #inSize(byte: number): State {
    const digit = HEX[byte] ?? -1
    if (digit >= 0) {
      this.#digits += 1
      this.#size = this.#size * 16 + digit
      if (this.#digits > MAX_DIGITS || this.#size > Number.MAX_SAFE_INTEGER)
        throw malformed('a chunk size is too large')
      return 'size'
    }
    if (this.#digits === 0) throw malformed('a chunk size is not hexadecimal')
    return this.#afterWord(byte)
  }

  #inExtension(byte: number): State {
    this.#lineBytes += 1
    this.#extensionBytes += 1
    if (this.#lineBytes > LIMITS.chunkLineBytes || this.#extensionBytes > LIMITS.extensionBytes)
      throw overLimit('chunk extensions are too long', 400)
    const state = this.#state
    if (state === 'quoted') return this.#inQuoted(byte)
    if (state === 'after-quoted') return this.#afterWord(byte)
    if (TOKEN[byte] === 1) {
      this.#word += 1
      return state
    }
    if (this.#word === 0) {
      if (state === 'extension-value' && byte === QUOTE) return 'quoted'
      throw malformed('a chunk extension is not well formed')
    }
    if (byte === EQUALS && state === 'extension-name') {
      this.#word = 0
      return 'extension-value'
    }
    return this.#afterWord(byte)
  }

  #inQuoted(byte: number): State {
    if (byte === QUOTE) return 'after-quoted'
    if (byte === BACKSLASH || TEXT[byte] !== 1) throw malformed('a chunk extension is not well formed')
    return 'quoted'
  }

  /** Behind the size, an extension's name, or its value. */
  #afterWord(byte: number): State {
    this.#word = 0
    if (byte === SEMICOLON) return 'extension-name'
    return expect(byte, CR, 'size-lf')
  }

  #afterSizeLine(byte: number): State {
    expect(byte, LF, 'data')
    this.#digits = 0
    this.#lineBytes = 0
    return this.#size === 0 ? 'trailer-start' : 'data'
  }

  #inTrailers(byte: number): State {
    this.#trailerBytes += 1
    if (this.#trailerBytes > LIMITS.trailerBytes) throw overLimit('the trailers are too long')
    switch (this.#state) {
      case 'trailer-start':
        this.#name = ''
        return byte === CR ? 'end-lf' : this.#inTrailerName(byte)
      case 'trailer-name':
        return this.#inTrailerName(byte)
      case 'trailer-value':
        if (TEXT[byte] === 1) return 'trailer-value'
        return expect(byte, CR, 'trailer-lf')
      default:
        return expect(byte, LF, 'trailer-start')
    }
  }

  #inTrailerName(byte: number): State {
    if (TOKEN[byte] === 1) {
      this.#name += String.fromCharCode(byte)
      return 'trailer-name'
    }
    if (byte !== COLON || this.#name === '') throw malformed('a trailer is not a field')
    this.#trailers += 1
    if (this.#trailers > LIMITS.fields) throw overLimit(`more than ${LIMITS.fields} trailers`)
    if (this.#isForbiddenTrailer?.(this.#name)) throw malformed(`${this.#name} in a trailer`)
    return 'trailer-value'
  }
}

function expect(byte: number, expected: number, next: State): State {
  if (byte !== expected) throw malformed('a chunk’s line is not well formed')
  return next
}

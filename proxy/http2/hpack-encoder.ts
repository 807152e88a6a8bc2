// HPACK's encoder (RFC 7541): one byte for a field that was sent before. What is secret never enters a table, from which
// its length could be guessed, and what changes with every message never pushes out what does not.
import { INITIAL } from './frames.ts'
import type { Header } from './header.ts'
import { DynamicTable } from './hpack-dynamic-table.ts'
import { STATIC_NAMES, STATIC_TABLE } from './hpack-static-table.ts'
import { encodeHuffman, huffmanLength } from './huffman.ts'

/** However much a peer allows: more entries cost memory on both sides and save nothing here. */
const MAX_TABLE_SIZE = INITIAL.headerTableSize

const SECRET = new Set(['authorization', 'proxy-authorization', 'cookie', 'set-cookie'])
const EPHEMERAL = new Set([
  'age',
  'baggage',
  'content-length',
  'content-range',
  'date',
  'etag',
  'expires',
  'if-match',
  'if-modified-since',
  'if-none-match',
  'last-modified',
  'location',
  'range',
  'traceparent',
  'tracestate',
  'x-request-id',
])

const INDEXED = 0x80
const INCREMENTAL = 0x40
const SIZE_UPDATE = 0x20
const NEVER_INDEXED = 0x10
const WITHOUT_INDEXING = 0x00
/** Of one field beside its strings: an index and two lengths. */
const MAX_OVERHEAD = 18

/** Entries of the dynamic table by name: their numbers by value, and the one that was added last. */
type DynamicName = { readonly values: Map<string, number>; latest: number }

/** Encoding is synchronous, so that all encoders share one. */
let scratch = Buffer.allocUnsafeSlow(16 * 1024)

export class HpackEncoder {
  readonly #names = new Map<string, DynamicName>()
  readonly #table = new DynamicTable(INITIAL.headerTableSize, (entry, number) => this.#forget(entry, number))
  #wantedSize: number = INITIAL.headerTableSize
  #smallestSize: number = INITIAL.headerTableSize
  #at = 0

  /** The peer's SETTINGS_HEADER_TABLE_SIZE; told to it at the beginning of the next block. */
  setMaxTableSize(bytes: number): void {
    this.#wantedSize = Math.min(bytes, MAX_TABLE_SIZE)
    this.#smallestSize = Math.min(this.#smallestSize, this.#wantedSize)
  }

  /** A header block. @throws RangeError for a character of more than one byte, after which this encoder is of no use. */
  encode(headers: readonly Header[]): Buffer {
    this.#at = 0
    this.#sizeUpdates()
    for (const header of headers) this.#field(header)
    return Buffer.from(scratch.subarray(0, this.#at))
  }

  /** RFC 7541, section 4.2: the smallest size between two blocks, then the last. */
  #sizeUpdates(): void {
    if (this.#smallestSize < this.#table.maxSize) this.#sizeUpdate(this.#smallestSize)
    if (this.#wantedSize !== this.#table.maxSize) this.#sizeUpdate(this.#wantedSize)
    this.#smallestSize = this.#wantedSize
  }

  #sizeUpdate(size: number): void {
    this.#table.resize(size)
    this.#integer(SIZE_UPDATE, 0x1f, size)
  }

  #field(header: Header): void {
    const [name, value, neverIndexed = false] = header
    this.#reserve(name.length + value.length + MAX_OVERHEAD)
    const known = STATIC_NAMES.get(name)
    const seen = this.#names.get(name)
    const nameIndex = known?.index ?? (seen ? this.#indexOf(seen.latest) : 0)
    if (neverIndexed || SECRET.has(name)) {
      this.#literal(NEVER_INDEXED, 0x0f, nameIndex, name, value)
      return
    }
    const fixed = known?.values.get(value)
    const number = seen?.values.get(value)
    if (fixed !== undefined) this.#integer(INDEXED, 0x7f, fixed)
    else if (number !== undefined) this.#integer(INDEXED, 0x7f, this.#indexOf(number))
    else if (this.#isWorthKeeping(name, value)) {
      this.#literal(INCREMENTAL, 0x3f, nameIndex, name, value)
      this.#keep(header)
    } else this.#literal(WITHOUT_INDEXING, 0x0f, nameIndex, name, value)
  }

  #isWorthKeeping(name: string, value: string): boolean {
    if (EPHEMERAL.has(name) || (name === ':path' && value.includes('?'))) return false
    return name.length + value.length + 32 <= this.#table.maxSize / 4
  }

  #keep(header: Header): void {
    const [name, value] = header
    const number = this.#table.added
    if (!this.#table.add(header)) return
    const seen = this.#names.get(name)
    if (seen) {
      seen.values.set(value, number)
      seen.latest = number
    } else this.#names.set(name, { values: new Map([[value, number]]), latest: number })
  }

  #forget([name, value]: Header, number: number): void {
    const seen = this.#names.get(name)
    if (seen?.latest === number) this.#names.delete(name)
    else seen?.values.delete(value)
  }

  #indexOf(number: number): number {
    return STATIC_TABLE.length + this.#table.added - number
  }

  #literal(kind: number, prefix: number, nameIndex: number, name: string, value: string): void {
    this.#integer(kind, prefix, nameIndex)
    if (nameIndex === 0) this.#string(name)
    this.#string(value)
  }

  /** RFC 7541, section 5.1. */
  #integer(kind: number, prefix: number, value: number): void {
    if (value < prefix) {
      scratch[this.#at++] = kind | value
      return
    }
    scratch[this.#at++] = kind | prefix
    let rest = value - prefix
    for (; rest >= 0x80; rest >>>= 7) scratch[this.#at++] = 0x80 | (rest & 0x7f)
    scratch[this.#at++] = rest
  }

  #string(text: string): void {
    const length = huffmanLength(text)
    if (length < text.length) {
      this.#integer(0x80, 0x7f, length)
      this.#at = encodeHuffman(text, scratch, this.#at)
    } else {
      this.#integer(0x00, 0x7f, text.length)
      this.#at += scratch.write(text, this.#at, 'latin1')
    }
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= scratch.length) return
    const larger = Buffer.allocUnsafeSlow(2 * (this.#at + bytes))
    scratch.copy(larger, 0, 0, this.#at)
    scratch = larger
  }
}

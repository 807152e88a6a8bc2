// HPACK's decoder (RFC 7541). What a peer can make it hold is the table and one header list, both bounded; a block that is
// refused for its size is still decoded to its end, since the next one builds upon it.
import { ErrorCode, Http2Error } from './errors.ts'
import { INITIAL } from './frames.ts'
import { type Header, sizeOf } from './header.ts'
import { DynamicTable } from './hpack-dynamic-table.ts'
import { STATIC_TABLE } from './hpack-static-table.ts'
import { decodeHuffman } from './huffman.ts'

export type HpackDecoderOptions = {
  /** Our SETTINGS_HEADER_TABLE_SIZE; at least 4096 until the peer has acknowledged less. */
  readonly maxTableSize: number
  /** Our SETTINGS_MAX_HEADER_LIST_SIZE: names and values and 32 bytes for each field. */
  readonly maxListSize: number
}

/** Bytes behind an integer's prefix: values below 2^28, which no string or table here reaches. */
const MAX_INTEGER_BYTES = 4
const NOTHING = Buffer.alloc(0)

export class HpackDecoder {
  readonly #maxListSize: number
  readonly #table: DynamicTable
  #maxTableSize: number
  #block: Buffer = NOTHING
  #at = 0

  constructor({ maxTableSize, maxListSize }: HpackDecoderOptions) {
    this.#maxTableSize = maxTableSize
    this.#maxListSize = maxListSize
    this.#table = new DynamicTable(INITIAL.headerTableSize)
  }

  /** To be called when the peer has acknowledged another SETTINGS_HEADER_TABLE_SIZE. */
  setMaxTableSize(bytes: number): void {
    this.#maxTableSize = bytes
  }

  /**
   * @throws Http2Error a connection error COMPRESSION_ERROR. A list beyond `maxListSize` is ENHANCE_YOUR_CALM of the
   * stream if that is given: the decoder goes on being in step with the peer.
   */
  decode(block: Buffer, streamId?: number): Header[] {
    this.#block = block
    this.#at = 0
    this.#sizeUpdates()
    const list: Header[] = []
    let size = 0
    while (this.#at < block.length) {
      const header = this.#field(block[this.#at] ?? 0)
      size += sizeOf(header)
      if (size <= this.#maxListSize) list.push(header)
    }
    this.#block = NOTHING
    if (size > this.#maxListSize)
      throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, `a header list of ${size} bytes`, streamId)
    return list
  }

  /** Only at the beginning of a block, and there must be one if the table is larger than it may be now. */
  #sizeUpdates(): void {
    while (((this.#block[this.#at] ?? 0) & 0xe0) === 0x20) {
      const size = this.#integer(0x1f)
      if (size > this.#maxTableSize) throw broken(`a table of ${size} bytes`)
      this.#table.resize(size)
    }
    if (this.#table.maxSize > this.#maxTableSize && this.#block.length > 0)
      throw broken('the table was not made smaller')
  }

  /** RFC 7541, section 6. */
  #field(first: number): Header {
    if ((first & 0x80) !== 0) return this.#entry(this.#integer(0x7f))
    if ((first & 0x40) !== 0) {
      const header = this.#literal(0x3f, false)
      this.#table.add(header)
      return header
    }
    if ((first & 0x20) !== 0) throw broken('a table size update within a block')
    return this.#literal(0x0f, (first & 0x10) !== 0)
  }

  #literal(prefix: number, neverIndexed: boolean): Header {
    const index = this.#integer(prefix)
    const name = index === 0 ? this.#string() : this.#entry(index)[0]
    const value = this.#string()
    return neverIndexed ? [name, value, true] : [name, value]
  }

  #entry(index: number): Header {
    const entry =
      index > STATIC_TABLE.length ? this.#table.get(index - STATIC_TABLE.length - 1) : STATIC_TABLE[index - 1]
    if (entry === undefined) throw broken(`no entry ${index}`)
    return entry
  }

  /** RFC 7541, section 5.1. */
  #integer(prefix: number): number {
    const first = (this.#block[this.#at] ?? 0) & prefix
    this.#at += 1
    if (first < prefix) return first
    let value = first
    for (let index = 0; index < MAX_INTEGER_BYTES; index += 1) {
      const byte = this.#block[this.#at]
      if (byte === undefined) throw truncated()
      this.#at += 1
      value += (byte & 0x7f) << (7 * index)
      if (byte < 0x80) return value
    }
    throw broken('an integer beyond the limit')
  }

  #string(): string {
    const first = this.#block[this.#at]
    if (first === undefined) throw truncated()
    const length = this.#integer(0x7f)
    const start = this.#at
    const end = start + length
    if (end > this.#block.length) throw truncated()
    this.#at = end
    return (first & 0x80) !== 0
      ? decodeHuffman(this.#block, start, end)
      : this.#block.toString('latin1', start, end)
  }
}

const broken = (why: string) => new Http2Error(ErrorCode.COMPRESSION_ERROR, why)
const truncated = () => broken('a block that ends within a field')

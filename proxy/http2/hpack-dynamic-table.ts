// HPACK's dynamic table (RFC 7541, sections 2.3.2 and 4): first in, first out, bounded by the sum of its entries' sizes.
import { type Header, sizeOf } from './header.ts'

/** Evicted places at the front of the array before they are cut off. */
const SLACK = 64

export class DynamicTable {
  #maxSize: number
  #size = 0
  /** Oldest first, from `#front` on. */
  #entries: Header[] = []
  #front = 0
  /** Entries ever added: the next one's number. */
  #added = 0
  readonly #evicted: ((entry: Header, number: number) => void) | undefined

  constructor(maxSize: number, evicted?: (entry: Header, number: number) => void) {
    this.#maxSize = maxSize
    this.#evicted = evicted
  }

  get maxSize(): number {
    return this.#maxSize
  }

  get added(): number {
    return this.#added
  }

  /** `age` 0 is the entry that was added last. */
  get(age: number): Header | undefined {
    const at = this.#entries.length - 1 - age
    return at < this.#front ? undefined : this.#entries[at]
  }

  /** An entry that is larger than the table empties it and is not added: false (RFC 7541, section 4.4). */
  add(entry: Header): boolean {
    const size = sizeOf(entry)
    this.#shrink(this.#maxSize - size)
    if (size > this.#maxSize) return false
    this.#entries.push(entry)
    this.#size += size
    this.#added += 1
    return true
  }

  resize(maxSize: number): void {
    this.#maxSize = maxSize
    this.#shrink(maxSize)
  }

  #shrink(target: number): void {
    while (this.#size > target) {
      const oldest = this.#entries[this.#front]
      if (oldest === undefined) break
      this.#size -= sizeOf(oldest)
      this.#evicted?.(oldest, this.#added - (this.#entries.length - this.#front))
      this.#front += 1
    }
    if (this.#front < SLACK) return
    this.#entries = this.#entries.slice(this.#front)
    this.#front = 0
  }
}

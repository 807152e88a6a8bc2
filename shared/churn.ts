// A Set and a Map for members that come and go, and outlive nothing. V8's own leave behind, whenever they make room, a table that
// points to the next one: a table that has grown old, dead or not, keeps all tables after it alive until the next full collection,
// and with them every member that came and went. Here the whole is replaced now and then, and no old table knows the new one.
// docs/adr/0006 has what that gave.

/** How many leave before it is replaced; more where it is larger, so that a replacement costs each of them about one copy. */
const LEAVERS = 256

export class ChurnSet<T> implements Iterable<T> {
  #members = new Set<T>()
  #leavers = 0

  get size(): number {
    return this.#members.size
  }

  has(member: T): boolean {
    return this.#members.has(member)
  }

  add(member: T): void {
    this.#members.add(member)
  }

  /** False: it was none of them. */
  delete(member: T): boolean {
    if (!this.#members.delete(member)) return false
    this.#leavers += 1
    if (this.#leavers >= LEAVERS && this.#leavers >= this.#members.size) {
      this.#members = new Set(this.#members)
      this.#leavers = 0
    }
    return true
  }

  /** The one that came first. */
  first(): T | undefined {
    for (const member of this.#members) return member
    return undefined
  }

  /** In the order of their coming; without those that go meanwhile, and those that come. */
  *[Symbol.iterator](): Generator<T> {
    for (const member of [...this.#members]) if (this.#members.has(member)) yield member
  }
}

export class ChurnMap<K, V> implements Iterable<readonly [K, V]> {
  #entries = new Map<K, V>()
  #leavers = 0

  get size(): number {
    return this.#entries.size
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)
  }

  has(key: K): boolean {
    return this.#entries.has(key)
  }

  /** A new key is the last in order. */
  set(key: K, value: V): void {
    this.#entries.set(key, value)
  }

  /** False: there was none. */
  delete(key: K): boolean {
    if (!this.#entries.delete(key)) return false
    this.#leavers += 1
    if (this.#leavers >= LEAVERS && this.#leavers >= this.#entries.size) {
      this.#entries = new Map(this.#entries)
      this.#leavers = 0
    }
    return true
  }

  /** The one that was set first. */
  first(): readonly [K, V] | undefined {
    for (const entry of this.#entries) return entry
    return undefined
  }

  /** As it is now, in the order of their coming. */
  [Symbol.iterator](): Iterator<readonly [K, V]> {
    return [...this.#entries].values()
  }
}

// A map to sets: how the world finds what refers to an address, a node or a namespace without a search.

export type Index = {
  add(key: string, value: string): void
  remove(key: string, value: string): void
  /** In no particular order. */
  get(key: string): ReadonlySet<string>
}

const NONE: ReadonlySet<string> = new Set()

export function createIndex(): Index {
  const sets = new Map<string, Set<string>>()
  return {
    add: (key, value) => {
      sets.getOrInsertComputed(key, () => new Set()).add(value)
    },
    remove: (key, value) => {
      const set = sets.get(key)
      set?.delete(value)
      if (set?.size === 0) sets.delete(key)
    },
    get: key => sets.get(key) ?? NONE,
  }
}

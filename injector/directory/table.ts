// How the world keeps one resource: records by key, entries in indices, and what each change touches. One mechanism for
// all resources, so that none forgets to take back what it indexed.
import { isDeepStrictEqual } from 'node:util'
import type { Pending, World } from './world.ts'

/** How objects of one resource become records. */
export type TableShape<O, R> = {
  readonly records: (world: World) => Map<string, R>
  readonly key: (object: O) => string
  readonly read: (object: O, former: R | undefined, world: World) => R
  /** The record's entries in indices, the same for `add` and `remove`. */
  readonly index?: (world: World, key: string, record: R, change: 'add' | 'remove', pending: Pending) => void
  /** Notes what depends on the record: the former one while it is indexed, then the new one. */
  readonly touch: (world: World, key: string, record: R, pending: Pending) => void
  /** True for a record that outlives its object. */
  readonly keeps?: (world: World, key: string, record: R) => boolean
  /** The object is there (again), whether its record changed or not. */
  readonly present?: (world: World, key: string) => void
}

export type Table<O> = {
  list(world: World, items: readonly O[], pending: Pending): void
  set(world: World, object: O, pending: Pending): void
  gone(world: World, object: O, pending: Pending): void
}

export function createTable<O, R>(shape: TableShape<O, R>): Table<O> {
  const { records, key, read, index, touch, keeps, present } = shape
  const drop = (world: World, at: string, pending: Pending) => {
    const former = records(world).get(at)
    if (former === undefined) return
    touch(world, at, former, pending)
    index?.(world, at, former, 'remove', pending)
    records(world).delete(at)
  }
  const set = (world: World, object: O, pending: Pending) => {
    const at = key(object)
    present?.(world, at)
    const former = records(world).get(at)
    const record = read(object, former, world)
    if (former !== undefined && isDeepStrictEqual(former, record)) return
    drop(world, at, pending)
    records(world).set(at, record)
    index?.(world, at, record, 'add', pending)
    touch(world, at, record, pending)
  }
  const lose = (world: World, at: string, pending: Pending) => {
    const record = records(world).get(at)
    if (record !== undefined && !keeps?.(world, at, record)) drop(world, at, pending)
  }
  return {
    set,
    gone: (world, object, pending) => lose(world, key(object), pending),
    list: (world, items, pending) => {
      const listed = new Set(items.map(key))
      for (const at of [...records(world).keys()]) if (!listed.has(at)) lose(world, at, pending)
      for (const item of items) set(world, item, pending)
    },
  }
}

// The JSON Patch (RFC 6902) that turns one JSON document into another. Injection describes the pod it wants and lets
// this compute the operations, so that missing parents, escaping and indexes are right in one place, and a pod that
// already is as wanted gets no operation at all.
import { isDeepStrictEqual } from 'node:util'

export type JsonPatchOperation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string }

/** A JSON Pointer (RFC 6901, section 3: `~` and `/` are escaped). */
export const pointer = (...segments: readonly (string | number)[]): string =>
  segments.map(segment => `/${String(segment).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')

type Path = readonly (string | number)[]
type Json = { readonly [key: string]: unknown }

/** Members that are undefined count as absent, as JSON.stringify has it. */
export function diff(before: unknown, after: unknown, path: Path = []): JsonPatchOperation[] {
  if (isDeepStrictEqual(before, after)) return []
  if (Array.isArray(before) && Array.isArray(after)) return diffArrays(before, after, path)
  if (isObject(before) && isObject(after)) return diffObjects(before, after, path)
  return [{ op: 'replace', path: pointer(...path), value: after }]
}

function diffObjects(before: Json, after: Json, path: Path): JsonPatchOperation[] {
  const had = (key: string) => Object.hasOwn(before, key) && before[key] !== undefined
  const has = (key: string) => Object.hasOwn(after, key) && after[key] !== undefined
  const removed = Object.keys(before).filter(key => had(key) && !has(key))
  return [
    ...removed.map(key => ({ op: 'remove' as const, path: pointer(...path, key) })),
    ...Object.keys(after)
      .filter(has)
      .flatMap(key => {
        if (had(key)) return diff(before[key], after[key], [...path, key])
        return [{ op: 'add' as const, path: pointer(...path, key), value: after[key] }]
      }),
  ]
}

/**
 * Elements are the same element if they have the same `name` or are equal. What both ends have in common is compared
 * element by element, with the indexes of `before`; then the middle is removed and added.
 */
function diffArrays(before: readonly unknown[], after: readonly unknown[], path: Path): JsonPatchOperation[] {
  const shorter = Math.min(before.length, after.length)
  let head = 0
  while (head < shorter && isSame(before[head], after[head])) head += 1
  let tail = 0
  while (tail < shorter - head && isSame(before.at(-1 - tail), after.at(-1 - tail))) tail += 1

  const removed = before.slice(head, before.length - tail).map((_, index) => head + index)
  const added = after.slice(head, after.length - tail)
  return [
    ...before.flatMap((element, index) => {
      const fromEnd = index - before.length
      if (index < head) return diff(element, after[index], [...path, index])
      return fromEnd >= -tail ? diff(element, after.at(fromEnd), [...path, index]) : []
    }),
    ...removed.reverse().map(index => ({ op: 'remove' as const, path: pointer(...path, index) })),
    ...added.map((value, index) => ({ op: 'add' as const, path: pointer(...path, head + index), value })),
  ]
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isSame = (a: unknown, b: unknown): boolean =>
  isObject(a) && isObject(b) && a.name !== undefined ? a.name === b.name : isDeepStrictEqual(a, b)

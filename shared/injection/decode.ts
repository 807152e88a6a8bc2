// Strict decoding of JSON that another process of ours wrote: every key is checked and unknown ones are refused, so
// that two versions which disagree say so instead of guessing. A decoder's shape is typed by what it decodes.
import { PosternError } from '../errors.ts'

/** Returns the value as `T`, or throws PSTN_CONFIG_INVALID naming `where` and the reason. */
export type Decode<T> = (value: unknown, where: string) => T

export const refuse = (where: string, why: string): PosternError =>
  new PosternError('PSTN_CONFIG_INVALID', `${where}: ${why}`)

export const text =
  (accepts: (value: string) => boolean, description: string): Decode<string> =>
  (value, where) => {
    if (typeof value !== 'string' || !accepts(value)) throw refuse(where, `must be ${description}`)
    return value
  }

export const integer =
  (min: number, max: number): Decode<number> =>
  (value, where) => {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
      throw refuse(where, `must be a whole number from ${min} to ${max}`)
    }
    return value
  }

export const oneOf =
  <const T extends string>(allowed: readonly T[]): Decode<T> =>
  (value, where) => {
    const found = allowed.find(candidate => candidate === value)
    if (found === undefined) throw refuse(where, `must be one of ${allowed.join(', ')}`)
    return found
  }

export const listOf =
  <T>(item: Decode<T>): Decode<readonly T[]> =>
  (value, where) => {
    if (!Array.isArray(value)) throw refuse(where, 'must be a list')
    return value.map((entry, index) => item(entry, `${where}[${index}]`))
  }

/** An object with exactly the keys of `shape`. */
export const object =
  <T extends object>(shape: { readonly [K in keyof T]: Decode<T[K]> }): Decode<T> =>
  (value, where) => {
    if (!isRecord(value)) throw refuse(where, 'must be an object')
    const known = Object.keys(shape)
    const unknown = Object.keys(value).find(key => !known.includes(key))
    if (unknown !== undefined) throw refuse(`${where}.${unknown}`, 'unknown key')
    const entries = (Object.entries(shape) as [string, Decode<unknown>][]).map(([key, decode]) => {
      if (!Object.hasOwn(value, key)) throw refuse(`${where}.${key}`, 'is missing')
      return [key, decode(value[key], `${where}.${key}`)]
    })
    return Object.fromEntries(entries) as T
  }

/** An object whose key `kind` selects one of the decoders. */
export const tagged =
  <T extends { readonly kind: string }>(
    kinds: {
      readonly [K in T['kind']]: Decode<Extract<T, { kind: K }>>
    },
  ): Decode<T> =>
  (value, where) => {
    if (!isRecord(value)) throw refuse(where, 'must be an object')
    const kind = oneOf(Object.keys(kinds) as T['kind'][])(value.kind, `${where}.kind`)
    return kinds[kind](value, where)
  }

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

// Strict decoding of JSON that another process of ours wrote: every key is checked and unknown ones are refused, so
// that two versions which disagree say so instead of guessing. A decoder's shape is typed by what it decodes.
import { PosternError } from './errors.ts'

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

/** A port as a key of JSON. */
export const portText = text(
  value => /^[1-9][0-9]{0,4}$/.test(value) && Number(value) <= 65_535,
  'a port from 1 to 65535',
)

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

/** A key that may be absent. */
export type Optional<T> = { readonly optional: Decode<T> }
export const optional = <T>(decode: Decode<T>): Optional<T> => ({ optional: decode })

type Shape<T> = {
  readonly [K in keyof T]-?: Record<never, never> extends Pick<T, K>
    ? Optional<Exclude<T[K], undefined>>
    : Decode<T[K]>
}

/** An object with exactly the keys of `shape`. */
export const object =
  <T extends object>(shape: Shape<T>): Decode<T> =>
  (value, where) => {
    const record = recordOf(value, where)
    const unknown = Object.keys(record).find(key => !Object.hasOwn(shape, key))
    if (unknown !== undefined) throw refuse(`${where}.${unknown}`, 'unknown key')
    return fields(shape, record, where)
  }

/** An object with the keys of `shape` and any others, which stay as they are: for readers that judge them themselves. */
export const extensible =
  <T extends object>(shape: Shape<T>): Decode<T> =>
  (value, where) => {
    const record = recordOf(value, where)
    return { ...record, ...fields(shape, record, where) }
  }

function fields<T extends object>(shape: Shape<T>, record: Record<string, unknown>, where: string): T {
  const entries = (Object.entries(shape) as [string, Decode<unknown> | Optional<unknown>][]).flatMap(
    ([key, field]) => {
      const place = `${where}.${key}`
      if (Object.hasOwn(record, key)) {
        const decode = typeof field === 'function' ? field : field.optional
        return [[key, decode(record[key], place)]]
      }
      if (typeof field === 'function') throw refuse(place, 'is missing')
      return []
    },
  )
  return Object.fromEntries(entries) as T
}

/** An object used as a map. */
export const mapOf =
  <T>(key: Decode<string>, item: Decode<T>): Decode<{ readonly [key: string]: T }> =>
  (value, where) =>
    Object.fromEntries(
      Object.entries(recordOf(value, where)).map(([name, entry]) => [
        key(name, `${where}: key`),
        item(entry, `${where}.${name}`),
      ]),
    )

/** An object whose key `kind` selects one of the decoders. */
export const tagged =
  <T extends { readonly kind: string }>(
    kinds: {
      readonly [K in T['kind']]: Decode<Extract<T, { kind: K }>>
    },
  ): Decode<T> =>
  (value, where) => {
    const { kind: named } = recordOf(value, where)
    const kind = oneOf(Object.keys(kinds) as T['kind'][])(named, `${where}.kind`)
    return kinds[kind](value, where)
  }

function recordOf(value: unknown, where: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  throw refuse(where, 'must be an object')
}

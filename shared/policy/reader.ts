// Reads a parsed YAML value against what is expected of it and goes on after each problem, so that an author sees all
// of them at once. Every reading function returns undefined where it reported; the caller drops the document then.
import { didYouMean } from '../suggest.ts'

export type Path = readonly (string | number)[]

/** A value and where it stands. */
export type Item = { readonly value: unknown; readonly path: Path }

export type Report = (path: Path, reason: string, hint: string) => void

type Fields<Name extends string> = { readonly [N in Name]?: Item }

export type Reader = {
  readonly report: Report
  /**
   * The fields of a mapping. `later` are fields that Istio has and this version does not: refused with a reason of
   * their own, since dropping one would change who is let in.
   */
  mapping<Name extends string>(
    item: Item,
    known: readonly Name[],
    later?: readonly string[],
  ): Fields<Name> | undefined
  /** A list of at least one; `empty` says what to write instead of an empty one. */
  list<T>(item: Item, empty: string, read: (item: Item) => T | undefined): readonly T[] | undefined
  text(item: Item, valid: (text: string) => boolean, hint: string): string | undefined
  oneOf<T extends string>(item: Item, allowed: readonly T[], later?: readonly string[]): T | undefined
}

/** Of one mapping: each costs a search for what it was meant to be. */
const MAX_UNKNOWN = 100
const LATER_HINT = 'leave it out; docs/policy.md lists what this version has'

export function createReader(report: Report): Reader {
  const mapping: Reader['mapping'] = (item, known, later = []) => {
    const { value, path } = item
    if (!isMapping(value)) {
      report(path, `is ${kindOf(value)}, not a mapping`, `its fields are ${known.join(', ')}`)
      return undefined
    }
    const unknown = Object.keys(value).filter(key => !known.some(name => name === key))
    for (const key of unknown.slice(0, MAX_UNKNOWN)) {
      if (later.includes(key)) report([...path, key], 'is not supported yet', LATER_HINT)
      else
        report(
          [...path, key],
          `unknown field${didYouMean(key, [...known, ...later])}`,
          `fields: ${known.join(', ')}`,
        )
    }
    if (unknown.length > 0) return undefined
    const present = Object.entries(value).map(([key, field]) => [key, { value: field, path: [...path, key] }])
    return Object.fromEntries(present)
  }

  const list: Reader['list'] = ({ value, path }, empty, read) => {
    if (!Array.isArray(value)) {
      report(path, `is ${kindOf(value)}, not a list`, 'write a list, for example [a, b]')
      return undefined
    }
    if (value.length === 0) {
      report(path, 'is empty', empty)
      return undefined
    }
    const items = value.map((entry: unknown, index) => read({ value: entry, path: [...path, index] }))
    return allDefined(items)
  }

  const text: Reader['text'] = ({ value, path }, valid, hint) => {
    if (typeof value === 'string' && valid(value)) return value
    report(
      path,
      typeof value === 'string' ? `${JSON.stringify(value)} is not valid` : `is ${kindOf(value)}`,
      hint,
    )
    return undefined
  }

  const oneOf: Reader['oneOf'] = ({ value, path }, allowed, later = []) => {
    const found = allowed.find(name => name === value)
    if (found !== undefined) return found
    const hint = `write ${allowed.join(' or ')}`
    if (typeof value !== 'string') report(path, `is ${kindOf(value)}`, hint)
    else if (later.includes(value)) report(path, `${value} is not supported yet`, hint)
    else report(path, `unknown value ${JSON.stringify(value)}${didYouMean(value, allowed)}`, hint)
    return undefined
  }

  return { report, mapping, list, text, oneOf }
}

const EMPTY_LIST = 'an empty list matches nobody or everybody: name at least one, or leave the field out'

/** A mapping of lists, each with its reader; at least one of them. */
export function readLists<T extends object>(
  reader: Reader,
  item: Item,
  readers: { readonly [Name in keyof T & string]: (entry: Item) => T[Name] | undefined },
  later: readonly string[],
  meaning: string,
): { readonly [Name in keyof T & string]?: readonly T[Name][] } | undefined {
  const names = Object.keys(readers) as (keyof T & string)[]
  const fields = reader.mapping(item, names, later)
  if (fields === undefined) return undefined
  const lists: { [Name in keyof T & string]?: readonly T[Name][] } = {}
  for (const name of names) {
    const field = fields[name]
    const list = field && reader.list(field, EMPTY_LIST, readers[name])
    if (list) lists[name] = list
  }
  if (names.every(name => fields[name] === undefined))
    reader.report(item.path, `is empty and would mean ${meaning}`, `name at least one of ${names.join(', ')}`)
  return lists
}

/** The list, if none of its items was refused. */
function allDefined<T>(items: readonly (T | undefined)[]): readonly T[] | undefined {
  const defined = items.filter(item => item !== undefined)
  return defined.length === items.length ? defined : undefined
}

export const isMapping = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'empty'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'object' ? 'a mapping' : `the ${typeof value} ${String(value)}`
}

/** `spec.rules[0].from` */
export const pathText = (path: Path): string =>
  path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : index === 0 ? part : `.${part}`))
    .join('')

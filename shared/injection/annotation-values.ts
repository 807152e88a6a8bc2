// What may be written as the value of an annotation or label: each parser gives undefined for anything else.
import { type Hook, isHookPath, isHookPort } from '../cert-files.ts'
import { isOwnPort } from '../ports.ts'
import { isVolumePath } from './settings.ts'

export function oneOf<T extends string>(...allowed: readonly T[]): (text: string) => T | undefined {
  return text => allowed.find(value => value === text)
}

/** Comma-separated, blanks around items allowed, an empty text for none; undefined if one item is wrong. */
export function items<T>(text: string, parse: (item: string) => T | undefined): readonly T[] | undefined {
  if (text === '') return []
  const parsed = text.split(',').map(item => parse(item.trim()))
  const good = parsed.filter(item => item !== undefined)
  return good.length === parsed.length ? [...new Set(good)] : undefined
}

export function certificateFiles(text: string): { readonly key: string; readonly chain: string } | undefined {
  const [key, chain = key, ...more] = text.split(',').map(path => path.trim())
  if (key === undefined || chain === undefined || more.length > 0) return undefined
  return isVolumePath(key) && isVolumePath(chain) ? { key, chain } : undefined
}

export const isDnsLabel = (text: string): boolean => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text)

export function hook(text: string): Hook | undefined {
  const [, digits = '', path = ''] = /^([1-9]\d{0,4})(\/.*)$/.exec(text) ?? []
  const port = Number(digits)
  return isHookPort(port) && isHookPath(path) ? { port, path } : undefined
}

export function ports(text: string): readonly number[] | undefined {
  return items(text, item => {
    const port = integer(item, 1, 65_535)
    return port === undefined || isOwnPort(port) ? undefined : port
  })
}

export function integer(text: string, min: number, max: number): number | undefined {
  return /^(0|[1-9]\d{0,8})$/.test(text) ? within(Number(text), min, max) : undefined
}

export function within(value: number | undefined, min: number, max: number): number | undefined {
  return value !== undefined && value >= min && value <= max ? value : undefined
}

/** Seconds of `24h`, `1h30m`, `90s`: Go's form, as elsewhere in Kubernetes, in whole units. */
export function duration(text: string): number | undefined {
  const [whole, hours = 0, minutes = 0, seconds = 0] =
    /^(?=.)(?:(\d{1,5})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?$/.exec(text) ?? []
  return whole === undefined ? undefined : Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)
}

const UNITS = { '': 1, k: 1e3, M: 1e6, G: 1e9, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 } as const
const isUnit = (text: string): text is keyof typeof UNITS => Object.hasOwn(UNITS, text)

/** Bytes of a Kubernetes quantity, or NaN. */
export function bytes(quantity: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,12})([A-Za-z]*)$/.exec(quantity) ?? []
  return digits !== '' && isUnit(unit) ? Number(digits) * UNITS[unit] : Number.NaN
}

export function memory(text: string): string | undefined {
  return bytes(text) >= 32 * UNITS.Mi ? text : undefined
}

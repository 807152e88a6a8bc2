// The representatives of what policies can tell apart, one axis for each thing they ask about: who calls, from where, which
// port, and what of a request. Their combinations are all that two versions of policies can differ in.

import { normalizePath } from '../../../shared/http/path.ts'
import type { Caller } from '../../../shared/policy/model.ts'
import { parseSpiffeId } from '../../../shared/spiffe-id.ts'
import { ADDRESS } from '../cases.ts'
import { addressesOf } from './addresses.ts'
import { type Classes, classesOf, type Grammar, type Pattern } from './automaton.ts'
import { pathPattern, some, stringPattern, text } from './patterns.ts'
import type { Written } from './written.ts'

export type Value<T> = { readonly label: string; readonly value: T }
export type Axis<T> = { readonly values: readonly Value<T>[]; readonly complete: boolean }

const LETTERS = 'xzqjkvwyabcdefghilmnoprstu0123456789XZQJKVWY'
const OTHER = 'any other'

/** A text of each class; `what` is asked for names those that no pattern matches. */
function asAxis({ texts, complete }: Classes, what: string): Axis<string> {
  const values = texts.map(({ text, matches }) => ({
    label: matches.length === 0 ? `${OTHER} ${what}` : text,
    value: text,
  }))
  return { values, complete }
}

export function callers(written: Written, own: string): Axis<Omit<Caller, 'address'>> {
  const workload = [text('/ns/'), some(true), text('/sa/'), some(true)] as const
  const kinds: readonly Pattern[] = [
    [text(own), ...workload],
    [text(`${own}/`), some()],
    [some(true), ...workload],
  ]
  const patterns: readonly Pattern[] = [
    ...kinds,
    ...written.principals.map(pattern => stringPattern(pattern)),
    ...written.namespaces.map(pattern => [
      text(`${own}/ns/`),
      ...stringPattern(pattern, true),
      text('/sa/'),
      some(true),
    ]),
    ...written.serviceAccounts.map(account => [text(`${own}/ns/${account.replace('/', '/sa/')}`)]),
    ...written.trustDomains.map(pattern => [...stringPattern(pattern, true), text('/'), some()]),
  ]
  const { texts, complete } = classesOf(patterns, SPIFFE)
  const known = texts.map(({ text: id, matches }) => ({
    label: matches.some(index => index >= kinds.length) ? `spiffe://${id}` : `${OTHER} ${kindOf(matches)}`,
    value: { identity: `spiffe://${id}` },
  }))
  const tls = written.hasTlsPorts
    ? [{ label: 'TLS without a certificate', value: { isEncrypted: true } }]
    : []
  return { values: [{ label: 'plaintext', value: {} }, ...tls, ...known], complete }
}

function kindOf(matches: readonly number[]): string {
  if (matches.includes(0)) return 'workload of ours'
  if (matches.includes(1)) return 'ID of our trust domain'
  return matches.includes(2) ? 'workload of another trust domain' : 'ID of another trust domain'
}

/** Segments begin and end with a letter or a digit: names that Kubernetes has. */
const SPIFFE: Grammar = {
  others: LETTERS,
  follow: (state, character) => {
    if (/[A-Za-z0-9]/.test(character)) return 'letter'
    if (state !== 'letter') return undefined
    return character === '/' ? 'slash' : /[._-]/.test(character) ? 'mark' : undefined
  },
  isText: id => {
    try {
      return /[A-Za-z0-9]$/.test(id) && parseSpiffeId(`spiffe://${id}`).path.length > 0
    } catch {
      return false
    }
  },
}

export function addresses(blocks: readonly string[]): Axis<string> {
  const values = addressesOf(blocks, ADDRESS).map(address => ({ label: address, value: address }))
  return { values, complete: true }
}

/** A port that nobody has written stands for all such. */
export function ports(written: readonly number[]): Axis<number> {
  const other = Array.from({ length: written.length + 1 }, (_, index) => 1024 + index).find(
    port => !written.includes(port),
  )
  const named = [...written].sort((a, b) => a - b).map(port => ({ label: String(port), value: port }))
  return { values: [...named, { label: `${OTHER} port`, value: other ?? 1024 }], complete: true }
}

export const methods = (written: readonly string[]): Axis<string> =>
  asAxis(
    classesOf(
      written.map(pattern => stringPattern(pattern)),
      {
        others: LETTERS.toUpperCase(),
        isText: method => /^[!#$%&'+.^_`|~0-9A-Z-]+$/.test(method),
      },
    ),
    'method',
  )

export function paths(written: readonly string[]): Axis<string> {
  const axis = asAxis(classesOf(written.map(pathPattern), PATHS), 'path')
  return written.length === 0 ? axis : { ...axis, values: [...axis.values, { label: '*', value: '*' }] }
}

const PATHS: Grammar = {
  others: LETTERS,
  always: '/',
  // The segment so far, as far as it may still be a dot segment.
  follow: (state, character) => {
    if (state === '') return character === '/' ? '/' : undefined
    if (character === '/') return ['/', '.', '..'].includes(state) ? undefined : '/'
    if (character === '.') return state === '/' ? '.' : state === '.' ? '..' : 'other'
    return 'other'
  },
  isText: path => {
    try {
      return normalizePath(path) === path
    } catch {
      return false
    }
  },
}

const WITH_PORT = /^(.*):([0-9]+)$/

/** Each name with each port that somebody has written, with another, and with none. */
export function hosts(written: readonly string[]): Axis<string> {
  const lower = written.map(pattern => pattern.toLowerCase())
  const split = lower.map(pattern => {
    const [, name = pattern, port] = pattern.endsWith(']') ? [] : (WITH_PORT.exec(pattern) ?? [])
    return { name, port }
  })
  const names = [...new Set(split.map(({ name }) => name))]
  const { texts, complete } = classesOf(
    names.map(name => stringPattern(name)),
    {
      others: LETTERS,
      isText: name => /^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(name) || names.includes(name),
    },
  )
  const numbers = [...new Set(split.flatMap(({ port }) => port ?? []))]
  const other = ['81', '82', ...numbers.map(port => String((Number(port) % 65_535) + 1))]
  const more = numbers.length > 0 ? [...numbers, other.find(port => !numbers.includes(port)) ?? '81'] : []
  const endings = ['', ...more.map(port => `:${port}`)]
  const values = texts.flatMap(({ text: name, matches }) =>
    endings.map(ending => ({
      label: matches.length === 0 ? `${OTHER} host${ending}` : name + ending,
      value: name + ending,
    })),
  )
  return { values: written.length === 0 ? values : [...values, { label: 'no host', value: '' }], complete }
}

/** Undefined: there is none; `null`: it comes twice. */
export function header(name: string, written: readonly string[]): Axis<string | null | undefined> {
  const { values, complete } = asAxis(
    classesOf(
      written.map(pattern => stringPattern(pattern)),
      {
        others: LETTERS,
        isText: value => /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(value),
      },
    ),
    'value',
  )
  const named = values.map(({ label, value }) => ({ label: `${name}: ${label}`, value }))
  const special: readonly Value<string | null | undefined>[] = [
    { label: `no ${name}`, value: undefined },
    { label: `${name} twice`, value: null },
    { label: `an empty ${name}`, value: '' },
  ]
  return { values: [...named, ...special], complete }
}

/** Texts of claims and of principals of end users. */
export const claimTexts = (written: readonly string[]): Axis<string> =>
  asAxis(
    classesOf(
      written.map(pattern => stringPattern(pattern)),
      { others: LETTERS, isText: claim => claim !== '' },
    ),
    'value',
  )

// One `when` entry of an AuthorizationPolicy: what a request or its connection must be beside `from` and `to`.
import { CONDITION_KEYS, type ConditionKey, conditionKey } from './condition-key.ts'
import type { Condition } from './model.ts'
import { isPattern } from './patterns.ts'
import { readPort } from './read-operation.ts'
import { isRequestPrincipalPattern, REQUEST_PRINCIPAL, readBlock, sourceValues } from './read-source.ts'
import type { Item, Reader } from './reader.ts'
import { isComparable } from './resource.ts'

const KEY = `write one of ${CONDITION_KEYS.join(', ')}`
const VALUE = 'write a text, or one * at the beginning or the end'

/** Keys of Istio's that this version refuses, and why. */
const REFUSED: readonly (readonly [pattern: RegExp, reason: string, hint: string])[] = [
  [
    /^remote\.ip$/,
    'would believe x-forwarded-for, which any caller may write',
    'use source.ip, the address of the connection',
  ],
  [/^connection\.sni$/, 'is not known: a tunnel names no host', 'use to.operation.hosts or ports'],
  [/^experimental\./, 'belongs to a proxy that is not here', KEY],
  [/^request\.headers\[host\]$/i, 'is read by hosts', 'use to.operation.hosts'],
  [
    /^request\.headers\[x-forwarded-client-cert\]$/i,
    'is written by the sidecar, after it has decided',
    'use source.principal',
  ],
]

export function readCondition(reader: Reader, item: Item, namespace: string): Condition | undefined {
  const fields = reader.mapping(item, ['key', 'values', 'notValues', 'equals', 'notEquals'])
  if (fields === undefined) return undefined
  const known = readKey(reader, fields.key ?? { value: undefined, path: [...item.path, 'key'] })
  if (known === undefined) return undefined
  if (known.kind.kind === 'segment') return readComparison(reader, item, known.key, fields)
  const { values, notValues, equals, notEquals } = fields
  for (const comparison of [equals, notEquals])
    if (comparison !== undefined)
      reader.report(comparison.path, 'belongs to request.path[<name>] alone', 'use values or notValues')
  if (values === undefined && notValues === undefined)
    reader.report(
      item.path,
      'has neither values nor notValues',
      'write at least one; ["*"] means that there is one',
    )
  const read = valueReader(reader, known.kind, namespace)
  const wanted = values && reader.list(values, EMPTY, read)
  const unwanted = notValues && reader.list(notValues, EMPTY, read)
  return { key: known.key, ...(wanted && { values: wanted }), ...(unwanted && { notValues: unwanted }) }
}

type ConditionFields = { readonly [K in 'values' | 'notValues' | 'equals' | 'notEquals']?: Item }

/** A segment that is known beforehand is a path of its own. */
function readComparison(
  reader: Reader,
  item: Item,
  key: string,
  { values, notValues, equals, notEquals }: ConditionFields,
): Condition | undefined {
  for (const list of [values, notValues])
    if (list !== undefined)
      reader.report(list.path, 'is not for segments of paths', 'write the value into the path itself')
  if (equals === undefined && notEquals === undefined)
    reader.report(item.path, 'has neither equals nor notEquals', COMPARISON)
  const same = equals && reader.text(equals, isComparable, COMPARISON)
  const other = notEquals && reader.text(notEquals, isComparable, COMPARISON)
  return { key, ...(same && { equals: same }), ...(other && { notEquals: other }) }
}

const COMPARISON = 'write equals: request.auth.claims[<name>], or another key of request.auth'

const EMPTY = 'an empty list matches nothing: name at least one value, or leave the field out'

function readKey(
  reader: Reader,
  item: Item,
): { readonly key: string; readonly kind: ConditionKey } | undefined {
  const text = reader.text(item, () => true, KEY)
  if (text === undefined) return undefined
  for (const [pattern, reason, hint] of REFUSED)
    if (pattern.test(text)) {
      reader.report(item.path, `${text} ${reason}`, hint)
      return undefined
    }
  const kind = conditionKey(text)
  if (kind === undefined) reader.report(item.path, `${JSON.stringify(text)} is no condition`, KEY)
  return kind && { key: kind.kind === 'header' ? `request.headers[${kind.name}]` : text, kind }
}

function valueReader(
  reader: Reader,
  kind: Exclude<ConditionKey, { readonly kind: 'segment' }>,
  namespace: string,
): (entry: Item) => string | undefined {
  switch (kind.kind) {
    case 'source':
      return sourceValues(reader, namespace)[kind.field]
    case 'port':
      return entry => readPort(reader, entry)?.toString()
    case 'address':
      return entry => readBlock(reader, entry)
    case 'header':
      return entry => reader.text(entry, isHeaderPattern, VALUE)
    case 'user':
      return entry => reader.text(entry, isRequestPrincipalPattern, REQUEST_PRINCIPAL)
    case 'claim':
      return entry => reader.text(entry, isClaimPattern, VALUE)
  }
}

/** A value as HTTP carries it (RFC 9110, section 5.5), without blanks at its ends, which readers remove. */
const isHeaderPattern = (text: string): boolean =>
  /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !/.\*./.test(text)

const isClaimPattern = (text: string): boolean => isPattern(text, /^[^*]+$/, bare => /^[^*]+$/.test(bare))

// One `when` entry of an AuthorizationPolicy: what a request or its connection must be beside `from` and `to`.
import { CONDITION_KEYS, type ConditionKey, conditionKey } from './condition-key.ts'
import type { Condition } from './model.ts'
import { readPort } from './read-operation.ts'
import { readBlock, sourceValues } from './read-source.ts'
import type { Item, Reader } from './reader.ts'

const KEY = `write one of ${CONDITION_KEYS.join(', ')}`
const VALUE = 'write a text, or one * at the beginning or the end'

/** Keys of Istio's that this version refuses, and why. */
const REFUSED: readonly (readonly [pattern: RegExp, reason: string, hint: string])[] = [
  [/^request\.auth\./, 'is not supported yet', 'docs/policy.md lists what this version has'],
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
  const fields = reader.mapping(item, ['key', 'values', 'notValues'])
  if (fields === undefined) return undefined
  const known = readKey(reader, fields.key ?? { value: undefined, path: [...item.path, 'key'] })
  if (known === undefined) return undefined
  const { values, notValues } = fields
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
  kind: ConditionKey,
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
  }
}

/** A value as HTTP carries it (RFC 9110, section 5.5), without blanks at its ends, which readers remove. */
const isHeaderPattern = (text: string): boolean =>
  /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !/.\*./.test(text)

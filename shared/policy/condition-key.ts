// What a `when` may ask about, in Istio's keys. One list for the reader and the compiler.
import type { SourceMatch } from './model.ts'

type SourceField = 'principals' | 'namespaces' | 'serviceAccounts' | 'trustDomains' | 'ipBlocks'

/** What a condition means: a field of the source, one of the destination, or a header of the request. */
export type ConditionKey =
  | { readonly kind: 'source'; readonly field: SourceField; readonly not: keyof SourceMatch }
  | { readonly kind: 'port' }
  | { readonly kind: 'address' }
  | { readonly kind: 'header'; readonly name: string }

const source = (field: SourceField, not: keyof SourceMatch): ConditionKey => ({ kind: 'source', field, not })

const KEYS: ReadonlyMap<string, ConditionKey> = new Map([
  ['source.principal', source('principals', 'notPrincipals')],
  ['source.namespace', source('namespaces', 'notNamespaces')],
  ['source.serviceAccount', source('serviceAccounts', 'notServiceAccounts')],
  ['source.trustDomain', source('trustDomains', 'notTrustDomains')],
  ['source.ip', source('ipBlocks', 'notIpBlocks')],
  ['destination.port', { kind: 'port' }],
  ['destination.ip', { kind: 'address' }],
])

/** How they are written, for messages. */
export const CONDITION_KEYS: readonly string[] = [...KEYS.keys(), 'request.headers[<name>]']

const HEADER = /^request\.headers\[([!#$%&'*+.^_`|~0-9A-Za-z-]+)\]$/

/** Undefined for what is no key that this build knows. */
export function conditionKey(key: string): ConditionKey | undefined {
  const [, name] = HEADER.exec(key) ?? []
  return name === undefined ? KEYS.get(key) : { kind: 'header', name: name.toLowerCase() }
}

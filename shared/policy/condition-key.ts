// What a `when` may ask about, in Istio's keys and one of ours, request.path. One list for the reader and the compiler.
import type { ClaimPath } from './end-user.ts'
import type { SourceMatch } from './model.ts'

type SourceField = 'principals' | 'namespaces' | 'serviceAccounts' | 'trustDomains' | 'ipBlocks'

/** What a condition means: a field of the source, one of the destination, or something of the request. */
export type ConditionKey =
  | { readonly kind: 'source'; readonly field: SourceField; readonly not: keyof SourceMatch }
  | { readonly kind: 'port' }
  | { readonly kind: 'address' }
  | { readonly kind: 'header'; readonly name: string }
  | { readonly kind: 'user' }
  | { readonly kind: 'claim'; readonly claim: ClaimPath }
  /** The segment of the path that a template names. */
  | { readonly kind: 'segment'; readonly name: string }

const source = (field: SourceField, not: keyof SourceMatch): ConditionKey => ({ kind: 'source', field, not })

const KEYS: ReadonlyMap<string, ConditionKey> = new Map([
  ['source.principal', source('principals', 'notPrincipals')],
  ['source.namespace', source('namespaces', 'notNamespaces')],
  ['source.serviceAccount', source('serviceAccounts', 'notServiceAccounts')],
  ['source.trustDomain', source('trustDomains', 'notTrustDomains')],
  ['source.ip', source('ipBlocks', 'notIpBlocks')],
  ['destination.port', { kind: 'port' }],
  ['destination.ip', { kind: 'address' }],
  ['request.auth.principal', { kind: 'user' }],
  ['request.auth.audiences', { kind: 'claim', claim: ['aud'] }],
  ['request.auth.presenter', { kind: 'claim', claim: ['azp'] }],
])

/** How they are written, for messages. */
export const CONDITION_KEYS: readonly string[] = [
  ...KEYS.keys(),
  'request.headers[<name>]',
  'request.auth.claims[<name>]',
  'request.path[<name>]',
]

const SEGMENT = /^request\.path\[([A-Za-z_][A-Za-z0-9_]*)\]$/
const CLAIM = /^request\.auth\.claims((?:\[[^[\]]+\])+)$/
const HEADER = /^request\.headers\[([!#$%&'*+.^_`|~0-9A-Za-z-]+)\]$/

/** Undefined for what is no key that this build knows. */
export function conditionKey(key: string): ConditionKey | undefined {
  const [, header] = HEADER.exec(key) ?? []
  if (header !== undefined) return { kind: 'header', name: header.toLowerCase() }
  const [, claim] = CLAIM.exec(key) ?? []
  if (claim !== undefined) return { kind: 'claim', claim: claimPath(claim) }
  const [, segment] = SEGMENT.exec(key) ?? []
  return segment === undefined ? KEYS.get(key) : { kind: 'segment', name: segment }
}

/** `[a][b]` */
const claimPath = (brackets: string): ClaimPath => brackets.slice(1, -1).split('][')

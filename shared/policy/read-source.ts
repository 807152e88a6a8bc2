// One `from` entry of an AuthorizationPolicy: who calls, in Istio's fields. Their values are those of the conditions too.
import { canonicalCidr } from '../cidr.ts'
import { isTrustDomain, parseSpiffeId, type SpiffeId, workloadOf } from '../spiffe-id.ts'
import type { SourceMatch } from './model.ts'
import { isPattern } from './patterns.ts'
import { isNamespaceName, isObjectName } from './read-selector.ts'
import { type Item, type Reader, readLists } from './reader.ts'

const SOURCE_LATER = ['remoteIpBlocks', 'notRemoteIpBlocks']

const PRINCIPAL =
  'write <trust domain>/ns/<namespace>/sa/<service account>, any other SPIFFE ID with its spiffe://, or one * at the beginning or the end'
const NAMESPACE = 'write a namespace, or one * at the beginning or the end'
const TRUST_DOMAIN = 'write a trust domain, or one * at the beginning or the end'
const ACCOUNT = 'write <namespace>/<service account>, or <service account> for this namespace'
const BLOCK = 'write an address or a network, for example 10.1.2.3 or 10.1.0.0/16'

export const REQUEST_PRINCIPAL =
  'write <issuer>/<subject> of the token, for example https://id.example/ada, or one * at the beginning or the end'

type ReadValue = (entry: Item) => string | undefined

export function readSource(reader: Reader, item: Item, namespace: string): SourceMatch | undefined {
  const { principals, namespaces, trustDomains, serviceAccounts, ipBlocks } = sourceValues(reader, namespace)
  const requestPrincipals = (entry: Item) => reader.text(entry, isRequestPrincipalPattern, REQUEST_PRINCIPAL)
  const readers = {
    principals,
    notPrincipals: principals,
    namespaces,
    notNamespaces: namespaces,
    serviceAccounts,
    notServiceAccounts: serviceAccounts,
    trustDomains,
    notTrustDomains: trustDomains,
    ipBlocks,
    notIpBlocks: ipBlocks,
    requestPrincipals,
    notRequestPrincipals: requestPrincipals,
  } as const satisfies { [Field in keyof Required<SourceMatch>]: ReadValue }
  return readLists(reader, item, readers, SOURCE_LATER, 'everybody')
}

/** How a value of each field is read, in its normalized form. */
export const sourceValues = (reader: Reader, namespace: string) =>
  ({
    principals: entry => {
      const text = reader.text(entry, isPrincipalPattern, PRINCIPAL)
      return text === undefined ? undefined : withoutScheme(text)
    },
    namespaces: entry => reader.text(entry, isNamespacePattern, NAMESPACE),
    trustDomains: entry => reader.text(entry, isTrustDomainPattern, TRUST_DOMAIN),
    serviceAccounts: entry => {
      const text = reader.text(entry, isServiceAccount, ACCOUNT)
      return text === undefined || text.includes('/') ? text : `${namespace}/${text}`
    },
    ipBlocks: entry => readBlock(reader, entry),
  }) as const satisfies { readonly [field: string]: ReadValue }

/** In one spelling, as a CIDR: host bits may be a mistake for one address. */
export function readBlock(reader: Reader, entry: Item): string | undefined {
  const block = reader.text(entry, text => canonicalCidr(asCidr(text)) !== undefined, BLOCK)
  if (block === undefined) return undefined
  const canonical = canonicalCidr(asCidr(block))
  if (canonical === asCidr(block)) return canonical
  reader.report(entry.path, `${JSON.stringify(block)} is not in canonical form`, `write ${canonical}`)
  return undefined
}

const asCidr = (text: string): string =>
  text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`

const withoutScheme = (text: string): string => text.replace(/^spiffe:\/\//, '')

const isPrincipalPattern = (text: string): boolean =>
  isPattern(withoutScheme(text), /^[A-Za-z0-9._/-]+$/, bare =>
    bare === text ? isWorkload(`spiffe://${bare}`) : spiffeId(text) !== undefined,
  )

/** An issuer is any text without blanks around it (RFC 7519, section 4.1.1). */
export const isRequestPrincipalPattern = (text: string): boolean =>
  isPattern(text, /^[^*\p{Cc}]+$/u, bare => /^[^*\p{Cc}/][^*\p{Cc}]*\/[^*\p{Cc}]+$/u.test(bare))

const isNamespacePattern = (text: string): boolean => isPattern(text, /^[a-z0-9-]+$/, isNamespaceName)

const isTrustDomainPattern = (text: string): boolean => isPattern(text, /^[a-z0-9._-]+$/, isTrustDomain)

function isWorkload(text: string): boolean {
  const id = spiffeId(text)
  return id !== undefined && workloadOf(id) !== undefined
}

function spiffeId(text: string): SpiffeId | undefined {
  try {
    return parseSpiffeId(text).id
  } catch {
    return undefined
  }
}

function isServiceAccount(text: string): boolean {
  const [first = '', second, ...rest] = text.split('/')
  if (second === undefined) return isObjectName(first)
  return isNamespaceName(first) && isObjectName(second) && rest.length === 0
}

// AuthorizationPolicy, in Istio's fields, to its normalized form. What would mean everybody by accident is refused:
// each such form has another spelling that says so on purpose.
import { isTrustDomain, parseSpiffeId, type SpiffeId, workloadOf } from '../spiffe-id.ts'
import type { AuthorizationDocument } from './document.ts'
import type { Feature, Rule, SourceMatch } from './model.ts'
import { isPattern } from './patterns.ts'
import { hasHttpField, readOperation } from './read-operation.ts'
import { isNamespaceName, isObjectName, readSelector } from './read-selector.ts'
import { type Item, isMapping, type Reader, readLists } from './reader.ts'

const SOURCE_LATER = [
  'requestPrincipals',
  'notRequestPrincipals',
  'ipBlocks',
  'notIpBlocks',
  'remoteIpBlocks',
  'notRemoteIpBlocks',
]
const SPEC_LATER = ['targetRef', 'targetRefs', 'provider', 'dryRun']

const PRINCIPAL =
  'write <trust domain>/ns/<namespace>/sa/<service account>, any other SPIFFE ID with its spiffe://, or one * at the beginning or the end'
const NAMESPACE = 'write a namespace, or one * at the beginning or the end'
const TRUST_DOMAIN = 'write a trust domain, or one * at the beginning or the end'
const ACCOUNT = 'write <namespace>/<service account>, or <service account> for this namespace'

/** Undefined if anything was reported. `name` is `<namespace>/<name>`. */
export function readAuthorization(
  reader: Reader,
  spec: Item,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): AuthorizationDocument | undefined {
  const fields = reader.mapping(spec, ['selector', 'action', 'rules'], SPEC_LATER)
  if (fields === undefined) return undefined
  const selector = fields.selector && readSelector(reader, fields.selector)
  const action = fields.action ? reader.oneOf(fields.action, ['ALLOW', 'DENY'], ['AUDIT', 'CUSTOM']) : 'ALLOW'
  const rules = readRules(reader, fields.rules, action === 'DENY', spec, namespace)
  if (action === undefined || rules === undefined) return undefined
  return {
    kind: 'AuthorizationPolicy',
    namespace,
    ...(selector && { selector }),
    policy: { kind: 'AuthorizationPolicy', name, action, rules, features: featuresOf(rules) },
  }
}

function featuresOf(rules: readonly Rule[]): Feature[] {
  const http = rules.some(({ to }) => to?.some(hasHttpField))
  const trustDomains = rules.some(({ from }) => from?.some(hasTrustDomain))
  return ['l4', ...(http ? ['http' as const] : []), ...(trustDomains ? ['trustDomains' as const] : [])]
}

const hasTrustDomain = ({ trustDomains, notTrustDomains }: SourceMatch): boolean =>
  trustDomains !== undefined || notTrustDomains !== undefined

function readRules(
  reader: Reader,
  item: Item | undefined,
  deny: boolean,
  spec: Item,
  namespace: string,
): readonly Rule[] | undefined {
  const none = item === undefined || (Array.isArray(item.value) && item.value.length === 0)
  if (none && deny)
    reader.report(item?.path ?? spec.path, 'a DENY policy without rules denies nothing', 'write rules')
  // Istio's spelling of "allow nothing".
  if (none) return []
  return reader.list(item, '', rule => readRule(reader, rule, deny, namespace))
}

function readRule(reader: Reader, item: Item, deny: boolean, namespace: string): Rule | undefined {
  const fields = reader.mapping(item, ['from', 'to'], ['when'])
  if (fields === undefined) return undefined
  if (deny && fields.from === undefined && fields.to === undefined)
    reader.report(
      item.path,
      'an empty rule of a DENY policy denies everybody',
      'name who or what is denied; to close a pod, write an ALLOW policy without rules',
    )
  const from =
    fields.from &&
    reader.list(fields.from, 'leave from out to mean everybody', entry => {
      const source = reader.mapping(entry, ['source'])?.source
      return source ? readSource(reader, source, namespace) : missing(reader, entry, 'source')
    })
  const to =
    fields.to &&
    reader.list(fields.to, 'leave to out to mean every port', entry => {
      const operation = reader.mapping(entry, ['operation'])?.operation
      return operation ? readOperation(reader, operation) : missing(reader, entry, 'operation')
    })
  return { ...(from && { from }), ...(to && { to }) }
}

function missing(reader: Reader, entry: Item, field: string): undefined {
  if (isMapping(entry.value) && Object.keys(entry.value).length === 0)
    reader.report(entry.path, `has no ${field}`, `write ${field}: {…}`)
  return undefined
}

function readSource(reader: Reader, item: Item, namespace: string): SourceMatch | undefined {
  const principal = (entry: Item) => {
    const text = reader.text(entry, isPrincipalPattern, PRINCIPAL)
    return text === undefined ? undefined : withoutScheme(text)
  }
  const namespaceName = (entry: Item) => reader.text(entry, isNamespacePattern, NAMESPACE)
  const trustDomain = (entry: Item) => reader.text(entry, isTrustDomainPattern, TRUST_DOMAIN)
  const account = (entry: Item) => {
    const text = reader.text(entry, isServiceAccount, ACCOUNT)
    return text === undefined || text.includes('/') ? text : `${namespace}/${text}`
  }
  const readers = {
    principals: principal,
    notPrincipals: principal,
    namespaces: namespaceName,
    notNamespaces: namespaceName,
    serviceAccounts: account,
    notServiceAccounts: account,
    trustDomains: trustDomain,
    notTrustDomains: trustDomain,
  } as const satisfies { [Field in keyof Required<SourceMatch>]: (entry: Item) => string | undefined }
  return readLists(reader, item, readers, SOURCE_LATER, 'everybody')
}

const withoutScheme = (text: string): string => text.replace(/^spiffe:\/\//, '')

const isPrincipalPattern = (text: string): boolean =>
  isPattern(withoutScheme(text), /^[A-Za-z0-9._/-]+$/, bare =>
    bare === text ? isWorkload(`spiffe://${bare}`) : spiffeId(text) !== undefined,
  )

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

// AuthorizationPolicy, in Istio's fields, to its normalized form. What would mean everybody by accident is refused:
// each such form has another spelling that says so on purpose.
import { parseSpiffeId, workloadOf } from '../spiffe-id.ts'
import type { AuthorizationDocument } from './document.ts'
import type { OperationMatch, Rule, SourceMatch } from './model.ts'
import { isNamespaceName, isObjectName, readSelector } from './read-selector.ts'
import { type Item, isMapping, type Reader } from './reader.ts'

const SOURCE_LATER = [
  'requestPrincipals',
  'notRequestPrincipals',
  'ipBlocks',
  'notIpBlocks',
  'remoteIpBlocks',
  'notRemoteIpBlocks',
  'trustDomains',
  'notTrustDomains',
]
const OPERATION_LATER = ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths']
const SPEC_LATER = ['targetRef', 'targetRefs', 'provider', 'dryRun']

const EMPTY_LIST = 'an empty list matches nobody or everybody: name at least one, or leave the field out'
const PRINCIPAL =
  'write <trust domain>/ns/<namespace>/sa/<service account>, or one * at the beginning or the end'
const NAMESPACE = 'write a namespace, or one * at the beginning or the end'
const ACCOUNT = 'write <namespace>/<service account>, or <service account> for this namespace'
const PORT = 'write a port from 1 to 65535'

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
    policy: { kind: 'AuthorizationPolicy', name, action, rules, features: ['l4'] },
  }
}

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
  } as const satisfies { [Field in keyof Required<SourceMatch>]: (entry: Item) => string | undefined }
  return readLists(reader, item, readers, SOURCE_LATER, 'everybody')
}

function readOperation(reader: Reader, item: Item): OperationMatch | undefined {
  const port = (entry: Item) => readPort(reader, entry)
  return readLists(reader, item, { ports: port, notPorts: port }, OPERATION_LATER, 'every port')
}

/** A mapping of lists, each with its reader; at least one of them. */
function readLists<Name extends string, T>(
  reader: Reader,
  item: Item,
  readers: { readonly [N in Name]: (entry: Item) => T | undefined },
  later: readonly string[],
  meaning: string,
): { readonly [N in Name]?: readonly T[] } | undefined {
  const names = Object.keys(readers) as Name[]
  const fields = reader.mapping(item, names, later)
  if (fields === undefined) return undefined
  const lists: { [N in Name]?: readonly T[] } = {}
  for (const name of names) {
    const field = fields[name]
    const list = field && reader.list(field, EMPTY_LIST, readers[name])
    if (list) lists[name] = list
  }
  if (names.every(name => fields[name] === undefined))
    reader.report(item.path, `is empty and would mean ${meaning}`, `name at least one of ${names.join(', ')}`)
  return lists
}

/** Istio writes ports as strings; both forms mean the same. */
export function readPort(reader: Reader, { value, path }: Item): number | undefined {
  const port = typeof value === 'string' && /^[1-9]\d{0,4}$/.test(value) ? Number(value) : value
  if (typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65_535) return port
  reader.report(path, `${JSON.stringify(value)} is not a port`, PORT)
  return undefined
}

const withoutScheme = (text: string): string => text.replace(/^spiffe:\/\//, '')

/** `*`, `prefix*`, `*suffix`, or text without a star that `exact` accepts. */
function isPattern(text: string, part: RegExp, exact: (text: string) => boolean): boolean {
  if (text === '*') return true
  const bare = text.startsWith('*') ? text.slice(1) : text.endsWith('*') ? text.slice(0, -1) : undefined
  return bare === undefined ? exact(text) : part.test(bare)
}

const isPrincipalPattern = (text: string): boolean =>
  isPattern(withoutScheme(text), /^[A-Za-z0-9._/-]+$/, isWorkloadPrincipal)

const isNamespacePattern = (text: string): boolean => isPattern(text, /^[a-z0-9-]+$/, isNamespaceName)

function isWorkloadPrincipal(text: string): boolean {
  try {
    return workloadOf(parseSpiffeId(`spiffe://${text}`).id) !== undefined
  } catch {
    return false
  }
}

function isServiceAccount(text: string): boolean {
  const [first = '', second, ...rest] = text.split('/')
  if (second === undefined) return isObjectName(first)
  return isNamespaceName(first) && isObjectName(second) && rest.length === 0
}

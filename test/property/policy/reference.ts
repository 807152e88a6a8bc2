// The semantics table as the plainest possible code, written without looking at the compiler: what evaluate() is held
// against. One boolean formula a line, no sets, no caching; identities are taken apart with a regular expression.
//
// | caller        | identity field under ALLOW               | identity field under DENY          |
// |---------------|------------------------------------------|------------------------------------|
// | unknown       | never matches                            | always matches                     |
// | own workload  | as written                               | as written                         |
// | any other     | as written, if the source has principals | as written; in no namespace of ours |
// |               | or trust domains                         |                                    |
// Where no ALLOW policy is, the default holds for all but callers of other trust domains, who are refused.
//
// | what is asked of | HTTP field under ALLOW | HTTP field under DENY |
// |------------------|------------------------|-----------------------|
// | opaque bytes, or what a request does not say | never matches | always matches |
// | a request        | as written             | as written            |
//
// | the end user of  | field of the user under ALLOW | field of the user under DENY |
// |------------------|-------------------------------|------------------------------|
// | opaque bytes, a request without a token, a token that does not say | never matches | always matches |
// | a request with a token | as written | as written |
//
// An address is always known, and is no identity. A header that a request does not have is known to be absent; one that it
// has twice is not known. A claim that a token does not have is known to be absent; one that is no text is not known.
// A segment is compared with a claim for each pattern of the operation that matches the path.
import type {
  Condition,
  HttpRequest,
  OperationMatch,
  PolicyRequest,
  PolicySet,
  Rule,
  SourceMatch,
} from '../../../shared/policy/model.ts'

const pattern = (text: string, value: string): boolean =>
  new RegExp(`^${text === '*' ? '.+' : text.split('*').map(RegExp.escape).join('.*')}$`, 's').test(value)

const anyOf = (patterns: readonly string[], value: string | undefined): boolean =>
  value !== undefined && patterns.some(text => pattern(text, value))

type Caller = { principal: string; domain: string; namespace?: string; account?: string } | undefined

function callerOf(identity: string | undefined, trustDomain: string): Caller {
  if (identity === undefined) return undefined
  const principal = identity.replace('spiffe://', '')
  const [domain = ''] = principal.split('/')
  const [, namespace, account] = /^[^/]+\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(principal) ?? []
  if (domain !== trustDomain || namespace === undefined) return { principal, domain }
  return { principal, domain, namespace, account: `${namespace}/${account}` }
}

const written = (
  source: SourceMatch,
  { principal, domain, namespace, account }: Exclude<Caller, undefined>,
): boolean =>
  (source.principals === undefined || anyOf(source.principals, principal)) &&
  (source.notPrincipals === undefined || !anyOf(source.notPrincipals, principal)) &&
  (source.trustDomains === undefined || anyOf(source.trustDomains, domain)) &&
  (source.notTrustDomains === undefined || !anyOf(source.notTrustDomains, domain)) &&
  (source.namespaces === undefined || anyOf(source.namespaces, namespace)) &&
  (source.notNamespaces === undefined || !anyOf(source.notNamespaces, namespace)) &&
  (source.serviceAccounts === undefined || anyOf(source.serviceAccounts, account)) &&
  (source.notServiceAccounts === undefined || !anyOf(source.notServiceAccounts, account))

/** IPv4 alone: eight binary digits for each number. */
const bits = (address: string): string =>
  address
    .split('.')
    .map(number => Number(number).toString(2).padStart(8, '0'))
    .join('')

const inBlock = (block: string, address: string): boolean => {
  const [network = '', length] = block.split('/')
  return bits(address).startsWith(bits(network).slice(0, Number(length)))
}

type User = HttpRequest['user']

const userMatches = (
  wanted: readonly string[] | undefined,
  unwanted: readonly string[] | undefined,
  action: 'ALLOW' | 'DENY',
  user: User,
): boolean => {
  if (wanted === undefined && unwanted === undefined) return true
  if (user?.principal === undefined) return action === 'DENY'
  return (wanted === undefined || anyOf(wanted, user.principal)) && !anyOf(unwanted ?? [], user.principal)
}

function sourceMatches(
  { ipBlocks, notIpBlocks, requestPrincipals, notRequestPrincipals, ...source }: SourceMatch,
  action: 'ALLOW' | 'DENY',
  caller: Caller,
  address: string,
  user: User,
): boolean {
  if (!userMatches(requestPrincipals, notRequestPrincipals, action, user)) return false
  if (ipBlocks !== undefined && !ipBlocks.some(block => inBlock(block, address))) return false
  if (notIpBlocks?.some(block => inBlock(block, address))) return false
  if (caller === undefined) return action === 'DENY' || Object.keys(source).length === 0
  const saysForeign = source.principals !== undefined || source.trustDomains !== undefined
  if (action === 'ALLOW' && caller.namespace === undefined && !saysForeign) return false
  return written(source, caller)
}

/** Without a port a pattern means every port; a host without one is at port 80. */
function hostPattern(written: string, host: string): boolean {
  const [, name = '', port] = /^(.*?)\.?(?::(\d*))?$/.exec(host.toLowerCase()) ?? []
  const lower = written.toLowerCase()
  return /:\d+$/.test(lower) ? pattern(lower, `${name}:${Number(port || 80)}`) : pattern(lower, name)
}

/** A template segment by segment; `{**}` takes as many as it can. */
function pathPattern(written: string, path: string): boolean {
  if (!written.includes('{')) return pattern(written, path)
  const [wanted, given] = [written.split('/'), path.split('/')]
  const open = wanted.indexOf('{**}')
  const fits = (segments: readonly string[], values: readonly string[]) =>
    segments.length === values.length &&
    segments.every((segment, at) =>
      /^\{[*a-z]+\}$/.test(segment) ? values[at] !== '' : segment === values[at],
    )
  if (open === -1) return fits(wanted, given)
  const behind = wanted.length - open - 1
  return (
    given.length >= wanted.length &&
    fits(wanted.slice(0, open), given.slice(0, open)) &&
    fits(wanted.slice(open + 1), given.slice(given.length - behind))
  )
}

type HttpField = readonly [
  wanted: readonly string[] | undefined,
  unwanted: readonly string[] | undefined,
  value: string | undefined,
  matches: (pattern: string, value: string) => boolean,
]

const httpFields = (operation: OperationMatch, http: HttpRequest | undefined): readonly HttpField[] => [
  [operation.methods, operation.notMethods, http?.method, pattern],
  [operation.paths, operation.notPaths, http?.path, pathPattern],
  [operation.hosts, operation.notHosts, http?.host, hostPattern],
]

const httpMatches = ([wanted, unwanted, value, matches]: HttpField, action: 'ALLOW' | 'DENY'): boolean => {
  if (wanted === undefined && unwanted === undefined) return true
  if (value === undefined || value === '') return action === 'DENY'
  if (wanted !== undefined && !wanted.some(text => matches(text, value))) return false
  return unwanted === undefined || !unwanted.some(text => matches(text, value))
}

const operationMatches = (
  operation: OperationMatch,
  action: 'ALLOW' | 'DENY',
  { port, http }: PolicyRequest,
): boolean =>
  (operation.ports === undefined || operation.ports.includes(port)) &&
  (operation.notPorts === undefined || !operation.notPorts.includes(port)) &&
  httpFields(operation, http).every(field => httpMatches(field, action))

const SOURCES: { readonly [key: string]: readonly [keyof SourceMatch, keyof SourceMatch] } = {
  'source.principal': ['principals', 'notPrincipals'],
  'source.namespace': ['namespaces', 'notNamespaces'],
  'source.serviceAccount': ['serviceAccounts', 'notServiceAccounts'],
  'source.trustDomain': ['trustDomains', 'notTrustDomains'],
  'source.ip': ['ipBlocks', 'notIpBlocks'],
}

function authHolds(
  {
    key,
    values,
    notValues,
  }: Pick<Condition, 'key'> & { [K in 'values' | 'notValues']: Condition[K] | undefined },
  action: 'ALLOW' | 'DENY',
  user: User,
): boolean {
  if (key === 'request.auth.principal') return userMatches(values, notValues, action, user)
  const told = user === undefined ? 'unknown' : claim(user, key)
  if (told === 'unknown') return action === 'DENY'
  if (told === 'absent') return values === undefined
  return (
    (values === undefined || told.some(value => anyOf(values, value))) &&
    !told.some(value => anyOf(notValues ?? [], value))
  )
}

function conditionHolds(
  { key, values, notValues }: Condition,
  action: 'ALLOW' | 'DENY',
  caller: Caller,
  { caller: { address: from }, address: to, port, http }: PolicyRequest,
): boolean {
  const [wanted, unwanted] = SOURCES[key] ?? []
  if (wanted && unwanted) {
    const source = { ...(values && { [wanted]: values }), ...(notValues && { [unwanted]: notValues }) }
    return sourceMatches(source, action, caller, from, http?.user)
  }
  const both = (matches: (text: string) => boolean) =>
    (values === undefined || values.some(matches)) && !(notValues ?? []).some(matches)
  if (key === 'destination.port') return both(text => Number(text) === port)
  if (key === 'destination.ip') return to === undefined ? action === 'DENY' : both(text => inBlock(text, to))
  if (key.startsWith('request.path')) return true
  if (key.startsWith('request.auth')) return authHolds({ key, values, notValues }, action, http?.user)
  const [, name = ''] = /^request\.headers\[(.*)\]$/.exec(key) ?? []
  if (http?.headers === undefined || http.headers.get(name) === null) return action === 'DENY'
  const value = http.headers.get(name)
  return value === undefined
    ? values === undefined
    : both(text => typeof value === 'string' && pattern(text, value))
}

const CLAIMS: { readonly [key: string]: string } = {
  'request.auth.audiences': 'aud',
  'request.auth.presenter': 'azp',
  'request.auth.claims[a]': 'a',
}

function claim(user: Exclude<User, undefined>, key: string): 'unknown' | 'absent' | string[] {
  const value = user.claims[CLAIMS[key] ?? '']
  if (value === undefined) return 'absent'
  const list: unknown[] = Array.isArray(value) ? value : [value]
  return list.every(entry => typeof entry !== 'object') ? list.map(String) : 'unknown'
}

/** Undefined: not known. */
function isSame(segment: string | undefined, key: string, user: User): boolean | undefined {
  if (user === undefined || segment === undefined) return undefined
  if (key === 'request.auth.principal')
    return user.principal === undefined ? undefined : user.principal === segment
  const told = claim(user, key)
  if (told === 'unknown') return undefined
  return told !== 'absent' && told.includes(segment)
}

/** No condition asks for a segment, or some pattern that matches names those that hold. */
function isOwned(
  { paths = [] }: OperationMatch,
  when: readonly Condition[],
  action: 'ALLOW' | 'DENY',
  { http }: PolicyRequest,
): boolean {
  const asked = when.filter(({ key }) => key.startsWith('request.path'))
  if (asked.length === 0) return true
  if (http === undefined || http.path === '') return action === 'DENY'
  return paths
    .filter(written => pathPattern(written, http.path))
    .some(written =>
      asked.every(({ key, equals, notEquals }) => {
        const [, name] = /\[(.*)\]/.exec(key) ?? []
        const segment = http.path.split('/')[written.split('/').indexOf(`{${name}}`)]
        const same = (other: string) => isSame(segment, other, http.user)
        return (
          (equals === undefined || (same(equals) ?? action === 'DENY')) &&
          (notEquals === undefined || (same(notEquals) === undefined ? action === 'DENY' : !same(notEquals)))
        )
      }),
    )
}

const ruleMatches = (
  { from, to, when }: Rule,
  action: 'ALLOW' | 'DENY',
  caller: Caller,
  request: PolicyRequest,
): boolean =>
  (from === undefined ||
    from.some(source => sourceMatches(source, action, caller, request.caller.address, request.http?.user))) &&
  (to === undefined ||
    to.some(
      operation =>
        operationMatches(operation, action, request) && isOwned(operation, when ?? [], action, request),
    )) &&
  (when === undefined || when.every(condition => conditionHolds(condition, action, caller, request)))

export type Expected = {
  readonly allow: boolean
  /** The first rule that matched, by its policy and index; absent where none did. */
  readonly by?: readonly [policy: string, rule: number]
}

export function reference(set: PolicySet, trustDomain: string, request: PolicyRequest): Expected {
  const caller = callerOf(request.caller.identity, trustDomain)
  for (const action of ['DENY', 'ALLOW'] as const)
    for (const policy of set.policies.filter(policy => policy.action === action))
      for (const [index, rule] of policy.rules.entries())
        if (ruleMatches(rule, action, caller, request))
          return { allow: action === 'ALLOW', by: [policy.name, index] }
  const anyAllow = set.policies.some(({ action }) => action === 'ALLOW')
  const isForeign = caller !== undefined && caller.domain !== trustDomain
  return { allow: !anyAllow && set.defaultAction === 'allow' && !isForeign }
}

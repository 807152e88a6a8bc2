// The semantics table as the plainest possible code, written without looking at the compiler: what evaluate() is held
// against. One boolean formula a line, no sets, no caching; identities are taken apart with a regular expression.
//
// | caller        | identity field under ALLOW               | identity field under DENY          |
// |---------------|------------------------------------------|------------------------------------|
// | unknown       | never matches                            | always matches                     |
// | own workload  | as written                               | as written                         |
// | any other     | as written, if the source has principals | as written; in no namespace of ours |
import type {
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

type Caller = { principal: string; namespace?: string; account?: string } | undefined

function callerOf(identity: string | undefined, trustDomain: string): Caller {
  if (identity === undefined) return undefined
  const principal = identity.replace('spiffe://', '')
  const [, domain, namespace, account] = /^([^/]+)\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(principal) ?? []
  if (domain !== trustDomain || namespace === undefined) return { principal }
  return { principal, namespace, account: `${namespace}/${account}` }
}

const written = (
  source: SourceMatch,
  { principal, namespace, account }: Exclude<Caller, undefined>,
): boolean =>
  (source.principals === undefined || anyOf(source.principals, principal)) &&
  (source.notPrincipals === undefined || !anyOf(source.notPrincipals, principal)) &&
  (source.namespaces === undefined || anyOf(source.namespaces, namespace)) &&
  (source.notNamespaces === undefined || !anyOf(source.notNamespaces, namespace)) &&
  (source.serviceAccounts === undefined || anyOf(source.serviceAccounts, account)) &&
  (source.notServiceAccounts === undefined || !anyOf(source.notServiceAccounts, account))

function sourceMatches(source: SourceMatch, action: 'ALLOW' | 'DENY', caller: Caller): boolean {
  if (caller === undefined) return action === 'DENY'
  if (action === 'ALLOW' && caller.namespace === undefined && source.principals === undefined) return false
  return written(source, caller)
}

const operationMatches = ({ ports, notPorts }: OperationMatch, port: number): boolean =>
  (ports === undefined || ports.includes(port)) && (notPorts === undefined || !notPorts.includes(port))

const ruleMatches = ({ from, to }: Rule, action: 'ALLOW' | 'DENY', caller: Caller, port: number): boolean =>
  (from === undefined || from.some(source => sourceMatches(source, action, caller))) &&
  (to === undefined || to.some(operation => operationMatches(operation, port)))

/** Whether the request is allowed. */
export function reference(set: PolicySet, trustDomain: string, request: PolicyRequest): boolean {
  const caller = callerOf(request.caller.identity, trustDomain)
  const matched = (action: 'ALLOW' | 'DENY') =>
    set.policies.some(
      policy =>
        policy.action === action &&
        policy.rules.some(rule => ruleMatches(rule, action, caller, request.port)),
    )
  if (matched('DENY')) return false
  if (!set.policies.some(({ action }) => action === 'ALLOW')) return set.defaultAction === 'allow'
  return matched('ALLOW')
}

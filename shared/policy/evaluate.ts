// The one evaluator: proxy, CLI and tests cannot disagree about a decision. Order and meaning are Istio's (DENY, then
// ALLOW, then the default), with one addition: what is not known of a caller never helps it. An identity field, `not…`
// or not, never lets a plaintext peer match ALLOW and always lets it match DENY.
import type {
  CompiledOperation,
  CompiledPolicy,
  CompiledRule,
  CompiledSource,
  KnownCaller,
} from './compile.ts'
import type { Decision, InboundMode, PolicyRequest } from './model.ts'
import { includes } from './string-set.ts'

export function evaluate(compiled: CompiledPolicy, { caller, port }: PolicyRequest): Decision {
  const known = compiled.callerOf(caller.identity)
  return (
    firstMatch(compiled.deny, 'DENY', known, port) ??
    firstMatch(compiled.allow, 'ALLOW', known, port) ??
    firstMatch(compiled.unsupported, 'DENY', known, port) ??
    compiled.otherwise
  )
}

/** Whether plaintext to this application port is refused unseen. A mode that this build does not know is strict. */
export function inboundMode({ mode }: CompiledPolicy, port: number): InboundMode {
  return (mode.ports[port] ?? mode.inbound) === 'permissive' ? 'permissive' : 'strict'
}

type Action = 'ALLOW' | 'DENY'

function firstMatch(
  rules: readonly CompiledRule[],
  action: Action,
  caller: KnownCaller | undefined,
  port: number,
): Decision | undefined {
  for (const { from, to, decision } of rules)
    if (operationMatches(to, port) && sourceMatches(from, action, caller)) return decision
  return undefined
}

function operationMatches(to: readonly CompiledOperation[] | undefined, port: number): boolean {
  if (to === undefined) return true
  for (const { ports, notPorts } of to)
    if ((ports === undefined || ports.has(port)) && !notPorts?.has(port)) return true
  return false
}

function sourceMatches(
  from: readonly CompiledSource[] | undefined,
  action: Action,
  caller: KnownCaller | undefined,
): boolean {
  if (from === undefined) return true
  if (caller === undefined) return action === 'DENY'
  for (const source of from) {
    // A foreign peer is let in only by a rule that names principals: `not` our namespace is not enough.
    if (action === 'ALLOW' && caller.own === undefined && source.principals === undefined) continue
    if (callerMatches(source, caller)) return true
  }
  return false
}

/** Namespaces and service accounts are those of our own trust domain: a foreign peer is in none of them. */
function callerMatches(source: CompiledSource, { principal, own }: KnownCaller): boolean {
  const { principals, notPrincipals, namespaces, notNamespaces, serviceAccounts, notServiceAccounts } = source
  if (principals && !includes(principals, principal)) return false
  if (notPrincipals && includes(notPrincipals, principal)) return false
  if (namespaces && !(own && includes(namespaces, own.namespace))) return false
  if (notNamespaces && own && includes(notNamespaces, own.namespace)) return false
  if (serviceAccounts && !(own && includes(serviceAccounts, own.account))) return false
  return !(notServiceAccounts && own && includes(notServiceAccounts, own.account))
}

// The one evaluator: proxy, CLI and tests cannot disagree about a decision. Order and meaning are Istio's (DENY, then
// ALLOW, then the default), with one addition: what is not known never helps the caller. An identity field, `not…` or
// not, never lets a plaintext peer match ALLOW and always lets it match DENY; so does an HTTP field with opaque bytes.
import type { CompiledPolicy } from './compile.ts'
import type { CompiledOperation, CompiledSource, KnownCaller } from './compiled-rule.ts'
import { httpMatches } from './http-match.ts'
import type { AuthorizationPolicy, Decision, InboundMode, PolicyRequest } from './model.ts'
import { findRule, type Matches, type Question } from './rule-index.ts'
import { includes } from './string-set.ts'

export function evaluate(compiled: CompiledPolicy, request: PolicyRequest): Decision {
  return decide(compiled, request, ruleMatches)
}

/** Of a connection whose requests are decided on one by one, before the first: refused if each of them would be. */
export function evaluateAnyRequest(compiled: CompiledPolicy, connection: PolicyRequest): Decision {
  return decide(compiled, connection, ruleFavours)
}

function decide(compiled: CompiledPolicy, request: PolicyRequest, matches: Matches): Decision {
  const caller = compiled.callerOf(request.caller.identity)
  const denies: Question = { action: 'DENY', caller, request }
  const found =
    findRule(caller ? compiled.deny : compiled.denyUnknown, matches, denies) ??
    findRule(compiled.allow, matches, { action: 'ALLOW', caller, request }) ??
    findRule(compiled.unsupported, matches, denies)
  return found?.decision ?? (caller?.isForeign ? compiled.otherwiseForeign : compiled.otherwise)
}

/** Whether plaintext to this application port is refused unseen. A mode that this build does not know is strict. */
export function inboundMode({ mode }: CompiledPolicy, port: number): InboundMode {
  if (mode.tls?.[port] !== undefined) return 'strict'
  return (mode.ports[port] ?? mode.inbound) === 'permissive' ? 'permissive' : 'strict'
}

/** What the mode refuses before any policy is asked: who is not known, where that takes a certificate, or TLS. */
export function refusedByMode(
  compiled: CompiledPolicy,
  { caller, port }: PolicyRequest,
): Decision | undefined {
  if (caller.identity !== undefined || inboundMode(compiled, port) === 'permissive') return undefined
  const tls = compiled.mode.tls?.[port]
  if (!caller.isEncrypted) {
    const reason = tls ? `port ${port} takes TLS alone` : `port ${port} is in strict mode`
    return { allow: false, code: 'PSTN_PLAINTEXT_REFUSED', reason }
  }
  if (tls === 'server') return undefined
  return { allow: false, code: 'PSTN_PEER_NO_CERTIFICATE', reason: `port ${port} takes a certificate now` }
}

type Action = AuthorizationPolicy['action']

const ruleMatches: Matches = ({ from, to }, { action, caller, request }) =>
  operationMatches(to, action, request, httpMatches) && sourceMatches(from, action, caller)

/** Of all requests, the one that fares best: it is what an ALLOW rule names, and not what a DENY rule does. */
const ruleFavours: Matches = ({ from, to }, { action, caller, request }) =>
  operationMatches(to, action, request, isAllow) && sourceMatches(from, action, caller)

const isAllow: typeof httpMatches = (_, action) => action === 'ALLOW'

function operationMatches(
  to: readonly CompiledOperation[] | undefined,
  action: Action,
  { port, http: known }: PolicyRequest,
  matchesHttp: typeof httpMatches,
): boolean {
  if (to === undefined) return true
  for (const { ports, notPorts, http } of to) {
    const hasPort = (ports === undefined || ports.has(port)) && !notPorts?.has(port)
    if (hasPort && (http === undefined || matchesHttp(http, action, known))) return true
  }
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
    if (action === 'ALLOW' && caller.own === undefined && !namesForeigners(source)) continue
    if (callerMatches(source, caller)) return true
  }
  return false
}

/** A foreign peer is let in only by a source that says so: `not` our namespace is not enough. */
const namesForeigners = ({ principals, trustDomains }: CompiledSource): boolean =>
  principals !== undefined || trustDomains !== undefined

function callerMatches(source: CompiledSource, caller: KnownCaller): boolean {
  const { principal, trustDomain } = caller
  const { principals, notPrincipals, trustDomains, notTrustDomains } = source
  if (principals && !includes(principals, principal)) return false
  if (notPrincipals && includes(notPrincipals, principal)) return false
  if (trustDomains && !includes(trustDomains, trustDomain)) return false
  if (notTrustDomains && includes(notTrustDomains, trustDomain)) return false
  return workloadMatches(source, caller)
}

/** Namespaces and service accounts are those of our own trust domain: a foreign peer is in none of them. */
function workloadMatches(source: CompiledSource, { own }: KnownCaller): boolean {
  const { namespaces, notNamespaces, serviceAccounts, notServiceAccounts } = source
  if (namespaces && !(own && includes(namespaces, own.namespace))) return false
  if (notNamespaces && own && includes(notNamespaces, own.namespace)) return false
  if (serviceAccounts && !(own && includes(serviceAccounts, own.account))) return false
  return !(notServiceAccounts && own && includes(notServiceAccounts, own.account))
}

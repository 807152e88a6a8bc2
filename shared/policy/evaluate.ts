// The one evaluator: proxy, CLI and tests cannot disagree about a decision. Order and meaning are Istio's (DENY, then
// ALLOW, then the default), with one addition: what is not known never helps the caller. An identity field, `not…` or
// not, never lets a plaintext peer match ALLOW and always lets it match DENY; so does an HTTP field with opaque bytes.
import type { CompiledPolicy } from './compile.ts'
import type { CompiledRule } from './compiled-rule.ts'
import { type CompiledCondition, conditionHolds } from './condition.ts'
import { type CompiledOperation, httpMatches } from './http-match.ts'
import type { Decision, InboundMode, Observed, PolicyRequest } from './model.ts'
import { resourceMatches } from './resource.ts'
import { findRule, type Question } from './rule-index.ts'
import { type CompiledSource, sourceMatches } from './source-match.ts'

export function evaluate(compiled: CompiledPolicy, request: PolicyRequest): Decision {
  return decide(compiled, request, false)
}

/** What is to be recorded beside `decision`, which evaluate() has made of the same request. */
export function observe(
  { watch }: CompiledPolicy,
  request: PolicyRequest,
  decision: Decision,
): Observed | undefined {
  if (watch === undefined) return undefined
  const audit = watch.audit && auditOf(evaluate(watch.audit, request))
  const would = watch.dryRun && evaluate(watch.dryRun, request)
  const dryRun = would?.allow === decision.allow ? undefined : would
  if (audit === undefined && dryRun === undefined) return undefined
  return { ...(audit && { audit }), ...(dryRun && { dryRun }) }
}

/** A rule's refusal; what the default refuses no AUDIT policy has named. One that is not understood covers all it may. */
function auditOf(decision: Decision): Observed['audit'] {
  if (decision.allow || decision.policy === undefined) return undefined
  return { policy: decision.policy, rule: decision.rule ?? 0 }
}

/** Of a connection whose requests are decided on one by one, before the first: refused if each of them would be. */
export function evaluateAnyRequest(compiled: CompiledPolicy, connection: PolicyRequest): Decision {
  return decide(compiled, connection, true)
}

function decide(compiled: CompiledPolicy, request: PolicyRequest, anyRequest: boolean): Decision {
  const caller = compiled.callerOf(request.caller.identity)
  const denies: Question = { action: 'DENY', caller, request, anyRequest }
  const found =
    findRule(caller ? compiled.deny : compiled.denyUnknown, ruleMatches, denies) ??
    findRule(compiled.allow, ruleMatches, { action: 'ALLOW', caller, request, anyRequest }) ??
    findRule(compiled.unsupported, ruleMatches, denies)
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

export const ruleMatches = (
  { from, to, resource, when }: Omit<CompiledRule, 'decision'>,
  asked: Question,
): boolean =>
  (resource ? resourceMatches(resource, asked) : operationMatches(to, asked)) &&
  isFrom(from, asked) &&
  allHold(when, asked)

function operationMatches(
  to: readonly CompiledOperation[] | undefined,
  { action, request: { port, http: known }, anyRequest }: Question,
): boolean {
  if (to === undefined) return true
  for (const { ports, notPorts, http } of to) {
    const hasPort = (ports === undefined || ports.has(port)) && !notPorts?.has(port)
    if (!hasPort) continue
    if (http === undefined) return true
    // Of all requests, the one that fares best is what an ALLOW rule names, and not what a DENY rule does.
    if (anyRequest ? action === 'ALLOW' : httpMatches(http, action, known)) return true
  }
  return false
}

function isFrom(from: readonly CompiledSource[] | undefined, asked: Question): boolean {
  if (from === undefined) return true
  for (const source of from) if (sourceMatches(source, asked)) return true
  return false
}

function allHold(when: readonly CompiledCondition[] | undefined, asked: Question): boolean {
  if (when === undefined) return true
  for (const condition of when) if (!conditionHolds(condition, asked)) return false
  return true
}

// A call explained as the sidecar of a pod would decide on it: normal forms, mode, policies, and what is recorded.
import { asPosternError } from '../../shared/errors.ts'
import { compile } from '../../shared/policy/compile.ts'
import { evaluate, evaluateAnyRequest, observe, refusedByMode } from '../../shared/policy/evaluate.ts'
import { type Explanation, explain } from '../../shared/policy/explain.ts'
import type { Decision, Observed, PolicyRequest, PolicySet } from '../../shared/policy/model.ts'
import type { Call } from './cases.ts'
import { readingsOf } from './decide.ts'

export type Bound = { readonly policy: PolicySet; readonly trustDomain: string }

export type Answer = {
  /** What no sidecar forwards, no policy is asked about. */
  readonly malformed?: { readonly code: string; readonly reason: string }
  readonly explanation?: Explanation
  readonly observed?: Observed
  /** What the mode says before any policy is asked. */
  readonly mode?: Decision
  readonly decision?: Decision
  /** Whether the port speaks HTTP is not asked here: what is decided where it is otherwise, if that is not the same. */
  readonly otherwise?: Decision
  /** The path in the reading that decided, of a request. */
  readonly path?: string
}

export function explained({ policy, trustDomain }: Bound, call: Call): Answer {
  const compiled = compile(policy, { trustDomain })
  const verdict = (request: PolicyRequest) => refusedByMode(compiled, request) ?? evaluate(compiled, request)
  let readings: ReturnType<typeof readingsOf>
  try {
    readings = readingsOf(call)
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_HTTP_MALFORMED')
    return { malformed: { code, reason: message } }
  }
  const [first, other] = readings
  const request = other && verdict(first).allow ? other : first
  const mode = refusedByMode(compiled, request)
  const explanation = explain(policy, { trustDomain }, request)
  const observed = mode ? undefined : observe(compiled, request, explanation.decision)
  const decision = mode ?? explanation.decision
  const { http, ...connection } = request
  const otherwise = http ? verdict(connection) : (mode ?? evaluateAnyRequest(compiled, connection))
  return {
    explanation,
    decision,
    ...(otherwise.allow !== decision.allow && { otherwise }),
    ...(mode && { mode }),
    ...(observed && { observed }),
    ...(request.http && { path: request.http.path }),
  }
}

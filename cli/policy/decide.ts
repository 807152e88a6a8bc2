// What a sidecar would decide, from files: the same evaluator behind the same normal forms.
import { asPosternError } from '../../shared/errors.ts'
import { normalizeHost } from '../../shared/http/host.ts'
import { normalizePath, otherReading } from '../../shared/http/path.ts'
import type { CompiledPolicy } from '../../shared/policy/compile.ts'
import { principalOf } from '../../shared/policy/end-user.ts'
import { evaluate, refusedByMode } from '../../shared/policy/evaluate.ts'
import type { HttpRequest, PolicyRequest } from '../../shared/policy/model.ts'
import { RequestHeaders } from '../../shared/policy/request-headers.ts'
import type { Call } from './cases.ts'

export type Verdict = {
  readonly allow: boolean
  readonly policy?: string
  readonly rule?: number
  /** Of a refusal. */
  readonly code?: string
  readonly reason?: string
}

export function decide(policy: CompiledPolicy, call: Call): Verdict {
  try {
    const [first, other] = readingsOf(call)
    const decision = verdict(policy, first)
    return decision.allow && other ? verdict(policy, other) : decision
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_HTTP_MALFORMED')
    return { allow: false, code, reason: message }
  }
}

/**
 * As the sidecar would ask: both ways in which applications may read a path, if there are two; each must be allowed.
 * @throws PosternError PSTN_HTTP_MALFORMED for what no sidecar forwards.
 */
export function readingsOf({
  identity,
  address,
  port,
  request,
}: Call): readonly [PolicyRequest, PolicyRequest?] {
  const caller = { address, ...(identity && { identity }) }
  if (request === undefined) return [{ caller, port }]
  const http = requestOf(request)
  const other = otherReading(http.path)
  const first = { caller, port, http }
  return other === undefined ? [first] : [first, { ...first, http: { ...http, path: other } }]
}

const verdict = (policy: CompiledPolicy, request: PolicyRequest): Verdict =>
  refusedByMode(policy, request) ?? evaluate(policy, request)

function requestOf(request: NonNullable<Call['request']>): HttpRequest {
  const { method, path, host, headers: written, claims } = request
  const [bare = ''] = path.split('?')
  const headers = new RequestHeaders()
  for (const [name, value] of Object.entries(written)) headers.add(name, value)
  return {
    method,
    path: bare === '*' ? bare : normalizePath(bare),
    host: host && normalizeHost(host),
    headers,
    ...(claims && { user: { principal: principalOf(claims), claims } }),
  }
}

// What a sidecar would decide, from files: the same evaluator behind the same normal forms.
import { asPosternError } from '../../shared/errors.ts'
import { normalizeHost } from '../../shared/http/host.ts'
import { normalizePath, otherReading } from '../../shared/http/path.ts'
import type { CompiledPolicy } from '../../shared/policy/compile.ts'
import { evaluate, refusedByMode } from '../../shared/policy/evaluate.ts'
import type { HttpRequest, PolicyRequest } from '../../shared/policy/model.ts'
import { RequestHeaders } from '../../shared/policy/request-headers.ts'
import type { Case } from './cases.ts'

export type Verdict = {
  readonly allow: boolean
  readonly policy?: string
  readonly rule?: number
  /** Of a refusal. */
  readonly code?: string
  readonly reason?: string
}

export function decide(policy: CompiledPolicy, { identity, address, port, request }: Case): Verdict {
  const caller = { address, ...(identity && { identity }) }
  try {
    if (request === undefined) return verdict(policy, { caller, port })
    const http = requestOf(request)
    const first = verdict(policy, { caller, port, http })
    const other = otherReading(http.path)
    return first.allow && other !== undefined
      ? verdict(policy, { caller, port, http: { ...http, path: other } })
      : first
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_HTTP_MALFORMED')
    return { allow: false, code, reason: message }
  }
}

const verdict = (policy: CompiledPolicy, request: PolicyRequest): Verdict =>
  refusedByMode(policy, request) ?? evaluate(policy, request)

function requestOf({ method, path, host, headers: written }: NonNullable<Case['request']>): HttpRequest {
  const [bare = ''] = path.split('?')
  const headers = new RequestHeaders()
  for (const [name, value] of Object.entries(written)) headers.add(name, value)
  return {
    method,
    path: bare === '*' ? bare : normalizePath(bare),
    host: host && normalizeHost(host),
    headers,
  }
}

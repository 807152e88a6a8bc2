// What a request has where a policy asks, in words for an explanation. Undefined: it is not known.
import { conditionKey } from './condition-key.ts'
import { claimValues } from './end-user.ts'
import type { Question } from './rule-index.ts'

/** A workload of no namespace of ours, or with no value at all, is known to have none. */
const NONE = 'none'

export function foundInSource(field: string, { caller, request }: Question): string | undefined {
  const name = field.replace(/^not/, '').toLowerCase()
  if (name === 'ipblocks') return request.caller.address
  if (name === 'requestprincipals') return request.http?.user?.principal
  if (caller === undefined) return undefined
  switch (name) {
    case 'principals':
      return caller.principal
    case 'trustdomains':
      return caller.trustDomain
    case 'namespaces':
      return caller.own?.namespace ?? NONE
    default:
      return caller.own?.account ?? NONE
  }
}

export function foundInOperation(field: string, { request: { port, http } }: Question): string | undefined {
  switch (field.replace(/^not/, '').toLowerCase()) {
    case 'ports':
      return String(port)
    case 'methods':
      return http?.method || undefined
    case 'hosts':
      return http?.host || undefined
    default:
      return http?.path || undefined
  }
}

export function foundInCondition(key: string, asked: Question): string | undefined {
  const known = conditionKey(key)
  const { request } = asked
  switch (known?.kind) {
    case 'source':
      return foundInSource(known.field, asked)
    case 'port':
      return String(request.port)
    case 'address':
      return request.address
    case 'header': {
      const value = request.http?.headers === undefined ? null : request.http.headers.get(known.name)
      return value === null ? undefined : (value ?? NONE)
    }
    case 'user':
      return request.http?.user?.principal
    case 'claim': {
      const { user } = request.http ?? {}
      const values = user && claimValues(user, known.claim)
      return values === null || user === undefined ? undefined : (values?.join(', ') ?? NONE)
    }
    default:
      return undefined
  }
}

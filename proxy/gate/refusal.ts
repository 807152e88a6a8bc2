// How a gate refuses: a code for logs and metrics, and the status that the caller is answered with.
import { asPosternError, type Code, PosternError } from '../../shared/errors.ts'
import type { RequestRefusal } from './interface.ts'

export type RefusalStatus = 400 | 401 | 403 | 408 | 414 | 417 | 431 | 502 | 503 | 505

export class HttpRefusal extends PosternError {
  readonly status: RefusalStatus

  constructor(status: RefusalStatus, code: Code, message: string, options?: ErrorOptions) {
    super(code, message, options)
    this.status = status
  }
}

/** Not the protocol, or something that two readers could take for two things. */
export const malformed = (why: string, status: 400 | 417 | 505 = 400): HttpRefusal =>
  new HttpRefusal(status, 'PSTN_HTTP_MALFORMED', why)

export const overLimit = (why: string, status: 400 | 414 | 431 = 431): HttpRefusal =>
  new HttpRefusal(status, 'PSTN_HTTP_LIMIT', why)

/** It asks to leave the protocol for something that nobody could authorize. */
export const upgradeRefused = (why: string): HttpRefusal => new HttpRefusal(400, 'PSTN_HTTP_UPGRADE', why)

export const tooSlow = (why: string): HttpRefusal => new HttpRefusal(408, 'PSTN_HTTP_TIMEOUT', why)

/** A token that is none, or that cannot be judged now. */
export function notAuthenticated(thrown: unknown): HttpRefusal {
  const { code, message } = asPosternError(thrown, 'PSTN_JWT_MALFORMED')
  const status = code === 'PSTN_JWKS_UNAVAILABLE' ? 503 : code === 'PSTN_POLICY_UNSUPPORTED' ? 403 : 401
  return new HttpRefusal(status, code, message, { cause: thrown })
}

/** Of a 401 (RFC 6750, section 3). */
export const CHALLENGE = 'Bearer error="invalid_token"'

/** The application’s answer cannot be told from the next one. */
export const badAnswer = (why: string): HttpRefusal => new HttpRefusal(502, 'PSTN_HTTP_ANSWER', why)

export const toldOf = ({ code, message }: HttpRefusal): RequestRefusal => ({ code, reason: message })

/** What requests under way are told when their connection is ended for `reason`: a policy’s, where it was one. */
export function toldOfEnd(reason: unknown): RequestRefusal | undefined {
  if (!(reason instanceof PosternError)) return undefined
  const { code, message, policy, rule }: PosternError & Pick<RequestRefusal, 'policy' | 'rule'> = reason
  return { code, reason: message, policy, rule }
}

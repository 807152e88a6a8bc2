// Asks whether a request may pass, in every way in which the application may read its path: what one reading forbids is
// refused, so that `/admin;x` is no way around a rule about `/admin`.
import { otherReading } from '../../shared/http/path.ts'
import type { HttpRequest } from '../../shared/policy/model.ts'
import type { AuthorizeRequest, RequestGrant } from './interface.ts'

/** @throws PosternError PSTN_NOT_READY */
export function authorizeReadings(
  authorize: AuthorizeRequest,
  request: HttpRequest,
  onRevoked: Parameters<AuthorizeRequest>[1],
): RequestGrant {
  const grant = authorize(request, onRevoked)
  const other = otherReading(request.path)
  if (other === undefined || !grant.decision.allow) return grant
  const second = authorize({ ...request, path: other }, onRevoked)
  return {
    decision: second.decision,
    [Symbol.dispose]: () => {
      grant[Symbol.dispose]()
      second[Symbol.dispose]()
    },
  }
}

// Our own certificate as it is used for something new: there is one, and it has not expired.
import { PosternError } from '../../shared/errors.ts'
import type { TunnelTls } from './interface.ts'

/** @throws PosternError PSTN_NOT_READY or PSTN_CERT_EXPIRED. */
export function ownInForce(own: TunnelTls | undefined, now: number): TunnelTls {
  if (!own) throw new PosternError('PSTN_NOT_READY', 'no certificate has arrived yet')
  if (now < own.notAfter.getTime()) return own
  throw new PosternError('PSTN_CERT_EXPIRED', `since ${own.notAfter.toISOString()}`)
}

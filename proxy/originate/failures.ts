// What went wrong with a host outside the mesh, under a code of its own: who has to act differs, their people or ours.
import { type Code, PosternError } from '../../shared/errors.ts'
import { isOwnShortage } from '../tcp/shortage.ts'
import { alertAboutUs } from '../tunnel/refused-by-peer.ts'

export type Attempt = {
  /** Of the document and of the address, for the reason. */
  readonly where: string
  /** There is a TCP connection. */
  readonly isConnected: boolean
  /** Node's verdict on the certificate, if there was one. */
  readonly verdict: string | undefined
}

export function failureOf({ where, isConnected, verdict }: Attempt, cause: Error): PosternError {
  const failed = (code: Code, why: string) => new PosternError(code, `${where}: ${why}`, { cause })
  if (isOwnShortage(cause)) return failed('PSTN_LIMIT', cause.message)
  if (!isConnected) return failed('PSTN_DESTINATION_UNREACHABLE', cause.message)
  if (verdict === 'ERR_TLS_CERT_ALTNAME_INVALID') return failed('PSTN_OUTSIDE_NAME', cause.message)
  if (verdict !== undefined) return failed('PSTN_OUTSIDE_UNTRUSTED', `${verdict}: ${cause.message}`)
  return refusalOfUs(where, cause) ?? failed('PSTN_OUTSIDE_TLS', cause.message)
}

/** What it said of our certificate, or of our having none. In TLS 1.3 it comes after the handshake. */
export function refusalOfUs(where: string, cause: Error): PosternError | undefined {
  if (!alertAboutUs(cause)) return undefined
  return new PosternError('PSTN_OUTSIDE_REFUSED', `${where}: ${cause.message}`, { cause })
}

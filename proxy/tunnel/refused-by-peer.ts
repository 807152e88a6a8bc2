// What a peer said, apart from what this sidecar found out itself: the same code means something else from there.
// PSTN_PEER_EXPIRED of ours is the peer's certificate, of the peer it is our own.
import { type Code, PosternError } from '../../shared/errors.ts'

export class RefusedByPeer extends PosternError {}

/** A server's alerts about its client's certificate (RFC 8446, section 6.2), as the code that Postern would say. */
const ALERTS: Readonly<Record<string, Code>> = {
  42: 'PSTN_PEER_UNTRUSTED', // bad_certificate
  43: 'PSTN_PEER_USAGE', // unsupported_certificate
  44: 'PSTN_PEER_UNTRUSTED', // certificate_revoked
  45: 'PSTN_PEER_EXPIRED', // certificate_expired
  46: 'PSTN_PEER_UNTRUSTED', // certificate_unknown
  48: 'PSTN_PEER_UNTRUSTED', // unknown_ca
  116: 'PSTN_PEER_NO_CERTIFICATE', // certificate_required
}

/**
 * The code of an alert that the peer sent about our certificate. In TLS 1.3 it comes after the handshake, as an error
 * of the socket. OpenSSL tells the number in its message alone, and only of alerts that were received.
 */
export function alertAboutUs({ message }: Error): Code | undefined {
  const [, alert = ''] = /SSL alert number (\d+)\s*$/.exec(message) ?? []
  return ALERTS[alert]
}

// TLS as Postern speaks it, on both sides: 1.3 only, our SVID, the bundle of one trust domain. Node's own verdict on the
// peer is never acted upon by Node (rejectUnauthorized is false) so that a refusal can say its code: whoever uses
// these options must call verifyPeer before the first byte.
import { constants } from 'node:crypto'
import type { ConnectionOptions, SecureContextOptions, TlsOptions } from 'node:tls'
import type { TrustBundle } from '../trust-bundle.ts'

/** An SVID with its key, both PEM. */
export type KeyedChain = { readonly key: string; readonly chain: string }

export const ALPN = 'h2'
export const HANDSHAKE_TIMEOUT_MS = 5_000

/** What changes with rotation: for `server.setSecureContext`. */
export function secureContext(credential: KeyedChain, bundle: TrustBundle): SecureContextOptions {
  return {
    cert: credential.chain,
    key: credential.key,
    // Always an array: an empty one trusts nobody, an empty string would trust the public web.
    ca: [...bundle.roots],
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    // A resumed session skips verification, so that it would outlive a removed root.
    secureOptions: constants.SSL_OP_NO_TICKET,
  }
}

/** `bundle` is that of our own trust domain. */
export function serverTlsOptions(credential: KeyedChain, bundle: TrustBundle): TlsOptions {
  return {
    ...secureContext(credential, bundle),
    ALPNProtocols: [ALPN],
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
  }
}

/** `bundle` is that of the expected peer's trust domain, and no other. */
export function clientTlsOptions(credential: KeyedChain, bundle: TrustBundle): ConnectionOptions {
  return {
    ...secureContext(credential, bundle),
    ALPNProtocols: [ALPN],
    rejectUnauthorized: false,
    // SVIDs name workloads, not hosts.
    checkServerIdentity: () => undefined,
  }
}

// Whether a peer that was identified would still be: a connection outlives the trust bundle that it was checked with,
// and a removed root must end it, without harm to those of the roots that stay.
import { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { KeepPeer } from '../tunnel/interface.ts'

/** What the peer sent is all that Node keeps: at most as many certificates as OpenSSL followed. */
const MAX_CHAIN = 10

export function anchoredIn({ roots }: TrustBundle): KeepPeer {
  const anchors = roots.map(root => new X509Certificate(root))
  return (_peer, socket) => leadsTo(anchors, socket)
}

function leadsTo(anchors: readonly X509Certificate[], socket: TLSSocket): boolean {
  let last = socket.getPeerX509Certificate()
  for (let length = 0; last && length < MAX_CHAIN; length += 1) {
    const signed = last
    if (anchors.some(anchor => isIssuer(anchor, signed))) return true
    last = signed.issuerCertificate
    // Its place in the chain was checked with a root that may be gone: a leaf is no issuer.
    if (last && !isIssuer(last, signed)) return false
  }
  return false
}

const isIssuer = (issuer: X509Certificate, signed: X509Certificate): boolean =>
  issuer.ca && signed.checkIssued(issuer) && signed.verify(issuer.publicKey)

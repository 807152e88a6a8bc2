// Whether a peer's certificate chain leads to a root at all, whatever the time and the purpose: OpenSSL tells the last flaw
// that it met alone, and Node keeps no more than the certificates that the peer sent.
import { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { splitPem } from '../trust-bundle.ts'

/** At most as many certificates as OpenSSL followed. */
const MAX_CHAIN = 10

export type Anchors = readonly X509Certificate[]

/** @param roots PEM */
export const anchorsOf = (roots: readonly string[]): Anchors => roots.map(root => new X509Certificate(root))

export function leadsTo(anchors: Anchors, socket: Pick<TLSSocket, 'getPeerX509Certificate'>): boolean {
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

/** The same for our own chain: PEM, leaf first, each certificate signed by the next, without the root. */
export const chainLeadsTo = (anchors: Anchors, chain: string): boolean =>
  splitPem(chain)
    .map(pem => new X509Certificate(pem))
    .some(certificate => anchors.some(anchor => isIssuer(anchor, certificate)))

export const isIssuer = (issuer: X509Certificate, signed: X509Certificate): boolean =>
  issuer.ca && signed.checkIssued(issuer) && signed.verify(issuer.publicKey)

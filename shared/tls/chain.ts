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

type Shown = Pick<TLSSocket, 'getPeerX509Certificate'>

export const leadsTo = (anchors: Anchors, socket: Shown): boolean => anchorOf(anchors, socket) !== undefined

/** The first of them that the peer's chain leads to. */
export function anchorOf(anchors: Anchors, socket: Shown): X509Certificate | undefined {
  let last = socket.getPeerX509Certificate()
  for (let length = 0; last && length < MAX_CHAIN; length += 1) {
    const signed = last
    const anchor = anchors.find(candidate => isIssuer(candidate, signed))
    if (anchor) return anchor
    last = signed.issuerCertificate
    // Its place in the chain was checked with a root that may be gone: a leaf is no issuer.
    if (last && !isIssuer(last, signed)) return undefined
  }
  return undefined
}

/** The same for our own chain: PEM, leaf first, each certificate signed by the next, without the root. */
export const chainLeadsTo = (anchors: Anchors, chain: string): boolean =>
  splitPem(chain)
    .map(pem => new X509Certificate(pem))
    .some(certificate => anchors.some(anchor => isIssuer(anchor, certificate)))

export const isIssuer = (issuer: X509Certificate, signed: X509Certificate): boolean =>
  issuer.ca && signed.checkIssued(issuer) && signed.verify(issuer.publicKey)

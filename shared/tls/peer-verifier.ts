// Who is at the other end of a TLS connection: the one check that both sides of every tunnel and of the control stream
// make after the handshake and before any byte. Node has verified the chain against one trust domain's bundle
// (contexts.ts); what makes a leaf an SVID, and the right one, is checked here on its DER.
import type { TLSSocket } from 'node:tls'
import { canonicalAddress } from '../addresses.ts'
import { asPosternError, type Code, PosternError } from '../errors.ts'
import type { SpiffeId } from '../spiffe-id.ts'
import type { TrustBundle } from '../trust-bundle.ts'
import { type Certificate, parseCertificate } from '../x509/certificate.ts'
import { podUidOf } from '../x509/subject.ts'
import { checkSvidLeaf } from '../x509/svid.ts'
import { anchorsOf, leadsTo } from './chain.ts'
import { ALPN } from './contexts.ts'

/** A peer that passed every check. */
export type VerifiedPeer = {
  readonly identity: SpiffeId
  readonly trustDomain: string
  /** Canonical IP literal of the socket's other end. */
  readonly address: string
  /** Lower-case hex. */
  readonly serial: string
  readonly notAfter: Date
  /** The pod that the certificate was made for. Absent in those of other signers, and of v0.1.0. */
  readonly podUid?: string
  /** SHA-256 of the certificate’s DER, lower-case hex. */
  readonly certificateHash: string
}

export type PeerContext = {
  /** Of the domain whose roots the socket's context holds. */
  readonly bundle: TrustBundle
  /** The only identity that may answer; absent on the server's side. */
  readonly expected?: SpiffeId
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** What a certificate says of its bearer, wherever that is. */
export type VerifiedBearer = Omit<VerifiedPeer, 'address'>

/**
 * The peer of a finished handshake.
 * @throws PosternError PSTN_TLS_FAILED (no TLS 1.3 with ALPN h2), and what verifyBearer throws.
 */
export function verifyPeer(socket: TLSSocket, context: PeerContext): VerifiedPeer {
  checkProtocol(socket)
  const bearer = verifyBearer(socket, context)
  const address = canonicalAddress(socket.remoteAddress ?? '')
  if (address === undefined) throw new PosternError('PSTN_TLS_FAILED', 'the peer is gone')
  return { ...bearer, address }
}

/**
 * Whoever holds the certificate of a finished handshake, whatever is spoken on it.
 * @throws PosternError PSTN_PEER_NO_CERTIFICATE, PSTN_PEER_UNTRUSTED, PSTN_PEER_EXPIRED, PSTN_PEER_NOT_YET_VALID,
 * PSTN_PEER_ID_INVALID, PSTN_PEER_TRUST_DOMAIN, PSTN_PEER_USAGE or PSTN_PEER_UNEXPECTED.
 */
export function verifyBearer(socket: TLSSocket, { bundle, expected, now }: PeerContext): VerifiedBearer {
  const { trustDomain, roots } = bundle
  const raw = socket.getPeerX509Certificate()?.raw
  if (!raw) throw new PosternError('PSTN_PEER_NO_CERTIFICATE', 'the peer presented no certificate')
  checkAuthorized(socket, roots)
  const leaf = parseLeaf(raw)
  const identity = checkSvidLeaf(leaf, { trustDomain, now })
  if (expected !== undefined && identity !== expected) {
    throw new PosternError('PSTN_PEER_UNEXPECTED', `expected ${expected}, met ${identity}`)
  }
  const { serial, notAfter, fingerprint256: certificateHash } = leaf
  const podUid = podUidOf(leaf.subject)
  return { identity, trustDomain, serial, notAfter, certificateHash, ...(podUid && { podUid }) }
}

function checkProtocol(socket: TLSSocket): void {
  if (socket.getProtocol() !== 'TLSv1.3' || socket.alpnProtocol !== ALPN) {
    const spoken = `${socket.getProtocol()} with ALPN ${socket.alpnProtocol || 'none'}`
    throw new PosternError('PSTN_TLS_FAILED', `the peer speaks ${spoken}, not TLSv1.3 with ALPN ${ALPN}`)
  }
}

/**
 * OpenSSL's verdicts that have a code of their own; every other flaw of a chain is a lack of trust. They count only for
 * a chain that leads to a root: a forged certificate that is also expired must not look like a late renewal.
 */
const VERDICTS: Readonly<Record<string, Code>> = {
  CERT_HAS_EXPIRED: 'PSTN_PEER_EXPIRED',
  CERT_NOT_YET_VALID: 'PSTN_PEER_NOT_YET_VALID',
  INVALID_PURPOSE: 'PSTN_PEER_USAGE',
}

/** OpenSSL's verdict on the chain. @throws PosternError PSTN_PEER_UNTRUSTED, PSTN_PEER_EXPIRED, … */
export function checkAuthorized(socket: TLSSocket, roots: readonly string[]): void {
  const { authorized, authorizationError } = socket
  if (authorized) return
  // Node's types say Error; it is OpenSSL's name for the flaw.
  const flaw = String(authorizationError)
  const code = VERDICTS[flaw]
  if (code && leadsTo(anchorsOf(roots), socket)) {
    throw new PosternError(code, `the peer’s certificate chain: ${flaw}`)
  }
  const also = code ? `it leads to no root that is trusted, and ${flaw}` : flaw
  throw new PosternError('PSTN_PEER_UNTRUSTED', `the peer’s certificate chain: ${also}`)
}

function parseLeaf(raw: Buffer): Certificate {
  try {
    return parseCertificate(raw)
  } catch (thrown) {
    throw asPosternError(thrown, 'PSTN_PEER_ID_INVALID')
  }
}

// Callers without SPIFFE, on the ports that name them: certificates of their own CA, and a table that says who is who. Which
// roots a chain leads to decides by which rule its bearer is known, and by that one alone: their CA vouches for nobody of ours.
import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { PosternError } from '../../shared/errors.ts'
import type { PartnerClients } from '../../shared/federation/model.ts'
import { parseSpiffeId } from '../../shared/spiffe-id.ts'
import { type Anchors, anchorsOf, isIssuer } from '../../shared/tls/chain.ts'
import { checkAuthorized, type VerifiedBearer } from '../../shared/tls/peer-verifier.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { distinguishedName } from '../../shared/x509/distinguished-name.ts'

/** More are not looked at: OpenSSL would not follow them. */
const MAX_SENT = 10
const NO_CERTIFICATE = 'the peer presented no certificate'

/**
 * Of those that name the port, the clients by whose CA the caller's certificate was issued. Undefined if that was our own:
 * then the rule is that of an SVID. Asked of everybody: a handshake may have been verified with roots that its port had then.
 * @throws PosternError PSTN_PEER_NO_CERTIFICATE; what checkAuthorized throws; PSTN_PEER_UNTRUSTED for what several vouch for, or nobody
 */
export function clientsOf(
  socket: TLSSocket,
  own: readonly string[],
  clients: readonly PartnerClients[],
): PartnerClients | undefined {
  const sent = sentBy(socket)
  if (sent.length === 0) throw new PosternError('PSTN_PEER_NO_CERTIFICATE', NO_CERTIFICATE)
  // Not after the search: a stranger could make it as long as he likes.
  checkAuthorized(socket, [own, ...clients.map(({ roots }) => roots)].flat())
  const theirs = clients.filter(({ roots }) => canLeadTo(anchorsOf(roots), sent))
  const owners = theirs.length + Number(canLeadTo(anchorsOf(own), sent))
  if (owners === 1) return theirs[0]
  const why = owners === 0 ? 'no root that is trusted' : 'the roots of several owners'
  throw new PosternError('PSTN_PEER_UNTRUSTED', `the peer’s certificate chain leads to ${why}`)
}

/** @throws PosternError PSTN_PEER_… */
export function verifyClient(socket: TLSSocket, { name, roots, principals }: PartnerClients): VerifiedBearer {
  const raw = socket.getPeerX509Certificate()?.raw
  if (!raw) throw new PosternError('PSTN_PEER_NO_CERTIFICATE', NO_CERTIFICATE)
  checkAuthorized(socket, roots)
  const { subject, uriSans, isCa, serial, notAfter, fingerprint256: certificateHash } = parseCertificate(raw)
  if (isCa) throw new PosternError('PSTN_PEER_USAGE', 'the certificate is a CA’s')
  if (uriSans.some(uri => /^spiffe:/i.test(uri)))
    throw new PosternError('PSTN_PEER_TRUST_DOMAIN', `the CA of ${name} vouches for no SPIFFE ID`)
  const text = distinguishedName(subject)
  const entry = principals.find(principal => principal.subject === text)
  if (!entry) {
    const shown = JSON.stringify(text ?? 'a subject of another form')
    throw new PosternError('PSTN_PEER_UNEXPECTED', `${shown} is not in the table of ${name}`)
  }
  const { id: identity, trustDomain } = parseSpiffeId(entry.principal)
  return { identity, trustDomain, serial, notAfter, certificateHash }
}

/** The leaf, then whatever else came: OpenSSL takes what it needs of it, in any order. */
function sentBy(socket: TLSSocket): readonly X509Certificate[] {
  const sent: X509Certificate[] = []
  for (let next = socket.getPeerX509Certificate(); next; next = next.issuerCertificate) {
    if (sent.length === MAX_SENT) throw new PosternError('PSTN_PEER_UNTRUSTED', 'too many certificates')
    sent.push(next)
  }
  return sent
}

/** Whether there is any path at all: of whoever was verified, one of these paths was. */
function canLeadTo(anchors: Anchors, sent: readonly X509Certificate[]): boolean {
  const reached = new Set(sent.slice(0, 1))
  for (const signed of reached) {
    if (anchors.some(anchor => isIssuer(anchor, signed))) return true
    for (const issuer of sent) if (!reached.has(issuer) && isIssuer(issuer, signed)) reached.add(issuer)
  }
  return false
}

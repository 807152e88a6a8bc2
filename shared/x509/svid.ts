// What a certificate must be to speak for a workload: an X.509-SVID leaf (SPIFFE X.509-SVID, sections 2 to 5) of one
// trust domain. Node verifies the chain; this is the part of the peer check that Node does not do.
import { PosternError } from '../errors.ts'
import { parseSpiffeId, type SpiffeId, trustDomainNamedBy } from '../spiffe-id.ts'
import type { Certificate } from './certificate.ts'
import { der, TAG } from './der.ts'
import { OID } from './oids.ts'

export type SvidContext = {
  /** The one domain whose bundle the chain was verified with. */
  readonly trustDomain: string
  /** Milliseconds since the epoch. */
  readonly now: number
}

/**
 * The identity of a leaf.
 * @throws PosternError PSTN_PEER_NOT_YET_VALID, PSTN_PEER_EXPIRED, PSTN_PEER_ID_INVALID, PSTN_PEER_TRUST_DOMAIN or
 * PSTN_PEER_USAGE: the first that applies, in this order.
 */
export function checkSvidLeaf(certificate: Certificate, { trustDomain, now }: SvidContext): SpiffeId {
  checkValidity(certificate, now)
  const { id, trustDomain: named } = parseSpiffeId(onlyUri(certificate.uriSans))
  if (named !== trustDomain) {
    throw new PosternError('PSTN_PEER_TRUST_DOMAIN', `${id} is not of the trust domain ${trustDomain}`)
  }
  const flaw = usageFlaw(certificate)
  if (flaw) throw new PosternError('PSTN_PEER_USAGE', `${id}: ${flaw}`)
  return id
}

function checkValidity({ notBefore, notAfter, serial }: Certificate, now: number): void {
  if (now < notBefore.getTime()) {
    const when = `valid from ${notBefore.toISOString()}, now ${new Date(now).toISOString()}`
    throw new PosternError('PSTN_PEER_NOT_YET_VALID', `certificate ${serial}: ${when}`)
  }
  if (now > notAfter.getTime()) {
    throw new PosternError('PSTN_PEER_EXPIRED', `certificate ${serial}: expired ${notAfter.toISOString()}`)
  }
}

function onlyUri(uriSans: readonly string[]): string {
  const [uri, ...more] = uriSans
  if (uri !== undefined && more.length === 0) return uri
  throw new PosternError('PSTN_PEER_ID_INVALID', `${uriSans.length} URI SANs; an SVID has exactly one`)
}

function usageFlaw(certificate: Certificate): string | undefined {
  const { isCa, keyUsage, extKeyUsage, unknownCritical, critical, subject } = certificate
  if (isCa) return 'a CA certificate cannot be a leaf'
  if (!keyUsage?.has('digitalSignature')) return 'key usage lacks digitalSignature'
  if (keyUsage.has('keyCertSign') || keyUsage.has('cRLSign')) return 'key usage has keyCertSign or cRLSign'
  if (!critical.has(OID.keyUsage)) return 'key usage is not marked critical'
  if (!extKeyUsage?.includes(OID.serverAuth)) return 'extended key usage lacks serverAuth'
  if (!extKeyUsage.includes(OID.clientAuth)) return 'extended key usage lacks clientAuth'
  if (subject.equals(EMPTY_NAME) && !critical.has(OID.subjectAltName))
    return 'the subject is empty and the subject alternative name not marked critical'
  if (certificate.nameConstraints) return 'name constraints belong to CA certificates'
  if (unknownCritical.length > 0) return `unknown critical extension ${unknownCritical.join(', ')}`
  return undefined
}

const EMPTY_NAME = der(TAG.sequence)

/**
 * Why a certificate may not sign others, or undefined if it may. One without a SPIFFE ID is a plain CA; one that has it
 * is an SVID of its own (sections 3.2 and 4), and must not be what a workload could show.
 */
export function signingFlaw(certificate: Certificate): string | undefined {
  const { isCa, keyUsage, uriSans, unknownCritical } = certificate
  if (!isCa) return 'it is no CA certificate'
  if (keyUsage && !keyUsage.has('keyCertSign')) return 'its key usage lacks keyCertSign'
  if (unknownCritical.length > 0) return `it has the unknown critical extension ${unknownCritical.join(', ')}`
  if (!uriSans.some(uri => /^spiffe:/i.test(uri))) return undefined
  if (!keyUsage) return 'it has a SPIFFE ID and no key usage'
  if (uriSans.length > 1) return `it has ${uriSans.length} URI SANs; an SVID has exactly one`
  return uriSans.every(trustDomainNamedBy) ? undefined : 'its SPIFFE ID is not that of a trust domain'
}

// The one certificate signing request (PKCS#10, RFC 2986) that Postern writes and its approver accepts. Both sides call
// buildCsrInfo: the sidecar signs its bytes, the approver rebuilds them from what the API server vouches for and
// compares, so that there is no field in which a forged request could hide something.
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { PosternError } from '../errors.ts'
import { contextTag, type DerValue, der, derOid, readBitString, readDer, readInside, TAG } from './der.ts'
import { OID } from './oids.ts'
import { decodePem, encodePem } from './pem.ts'

export const CSR_LABEL = 'CERTIFICATE REQUEST'

const VERSION_1 = der(TAG.integer, Buffer.from([0]))
const NO_SUBJECT = der(TAG.sequence)
const TRUE = der(TAG.boolean, Buffer.from([0xff]))
const ECDSA_WITH_SHA256 = der(TAG.sequence, derOid(OID.ecdsaWithSha256))

// RFC 5480: id-ecPublicKey, the named curve P-256 and an uncompressed point, whose first byte is 4.
const P256_PREFIX = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex')
const P256_LENGTH = P256_PREFIX.length + 64

/** Whether a SubjectPublicKeyInfo is a P-256 key in the form that OpenSSL and Go write. */
export const isP256Spki = (spki: Buffer): boolean =>
  spki.length === P256_LENGTH && spki.subarray(0, P256_PREFIX.length).equals(P256_PREFIX)

/**
 * The canonical CertificationRequestInfo: version 1, no subject (identity is the SAN alone), the key, and one
 * attribute, extensionRequest, with one extension: the SAN with one URI. It is critical, as RFC 5280, 4.2.1.6 wants it
 * where the subject is empty. Usages travel in `spec.usages`. `openssl req -subj / -addext
 * subjectAltName=critical,URI:…` writes the same bytes.
 */
export function buildCsrInfo(publicKeySpki: Buffer, spiffeId: string): Buffer {
  const names = der(TAG.sequence, der(contextTag(6), Buffer.from(spiffeId, 'latin1')))
  const san = der(TAG.sequence, derOid(OID.subjectAltName), TRUE, der(TAG.octetString, names))
  const extensions = der(TAG.sequence, san)
  const attribute = der(TAG.sequence, derOid(OID.extensionRequest), der(TAG.set, extensions))
  return der(TAG.sequence, VERSION_1, NO_SUBJECT, publicKeySpki, der(contextTag(0, true), attribute))
}

/** The PEM of a request for `spiffeId`, signed with a P-256 key. */
export function createCsr(keys: { publicKey: KeyObject; privateKey: KeyObject }, spiffeId: string): string {
  const info = buildCsrInfo(keys.publicKey.export({ format: 'der', type: 'spki' }), spiffeId)
  const signature = der(TAG.bitString, Buffer.from([0]), sign('sha256', info, keys.privateKey))
  return encodePem(CSR_LABEL, der(TAG.sequence, info, ECDSA_WITH_SHA256, signature))
}

export type Csr = {
  /** The whole request. */
  readonly der: Buffer
  /** The CertificationRequestInfo as it was signed. */
  readonly info: Buffer
  /** The SubjectPublicKeyInfo. */
  readonly spki: Buffer
  /** An ECDSA-SHA256 signature of `info` by the key in it. */
  readonly signatureValid: boolean
}

/** @throws PosternError PSTN_CSR_DENIED if the text is not one PEM block with one PKCS#10 request. */
export function parseCsr(pem: string): Csr {
  const bytes = decodePem(CSR_LABEL, pem)
  if (!bytes) throw new PosternError('PSTN_CSR_DENIED', `not exactly one PEM block ${CSR_LABEL}`)
  try {
    const [info, algorithm, signature, ...rest] = readInside(readDer(bytes), TAG.sequence)
    const spki = readInside(info, TAG.sequence)[2]
    if (!info || !spki || !algorithm || rest.length > 0) throw new Error('not three parts')
    return {
      der: bytes,
      info: info.raw,
      spki: spki.raw,
      signatureValid: isSignedByItself(info, spki, algorithm, signature),
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new PosternError('PSTN_CSR_DENIED', `not a PKCS#10 request in DER: ${reason}`, { cause })
  }
}

function isSignedByItself(
  info: DerValue,
  spki: DerValue,
  algorithm: DerValue,
  signature?: DerValue,
): boolean {
  const { bytes, unusedBits } = readBitString(signature)
  if (unusedBits !== 0 || !algorithm.raw.equals(ECDSA_WITH_SHA256) || !isP256Spki(spki.raw)) return false
  try {
    return verify('sha256', info.raw, createPublicKey({ key: spki.raw, format: 'der', type: 'spki' }), bytes)
  } catch {
    return false // a point that is not on the curve
  }
}

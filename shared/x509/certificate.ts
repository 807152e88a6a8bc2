// A certificate as Postern needs it: what Node's X509Certificate does not tell (basic constraints, the key usage bits,
// which Node's `keyUsage` is not, the kinds of SAN) read from the DER; signatures and fingerprints left to OpenSSL.
import { X509Certificate } from 'node:crypto'
import {
  contentOf,
  contextTag,
  DerError,
  type DerValue,
  readBitString,
  readBoolean,
  readDer,
  readInside,
  readInteger,
  readOid,
  readTime,
  TAG,
} from './der.ts'
import { OID } from './oids.ts'
import { encodePem } from './pem.ts'

/** RFC 5280, 4.2.1.3, in the order of the bits. */
const KEY_USAGES = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
  'encipherOnly',
  'decipherOnly',
] as const

export type KeyUsage = (typeof KEY_USAGES)[number]

export type Certificate = {
  /** Lower-case hex, without the sign byte. */
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** The Name's DER. */
  readonly subject: Buffer
  readonly issuer: Buffer
  /** The SubjectPublicKeyInfo's DER. */
  readonly spki: Buffer
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
  readonly isCa: boolean
  readonly pathLength?: number
  /** Absent if the certificate has no such extension. */
  readonly keyUsage?: ReadonlySet<KeyUsage>
  readonly extKeyUsage?: readonly string[]
  /** Of a CA: which names may stand below it (name-constraints.ts). */
  readonly nameConstraints?: DerValue
  /** OIDs of the extensions that are marked critical. */
  readonly critical: ReadonlySet<string>
  /** OIDs of critical extensions that nothing here understands. */
  readonly unknownCritical: readonly string[]
  /** SHA-256 of the certificate, lower-case hex. */
  readonly fingerprint256: string
  readonly pem: string
  /** The names match and `issuer`'s key made the signature. Says nothing of the issuer's right to sign. */
  isSignedBy(issuer: Certificate): boolean
  /** Node's view of it, for what OpenSSL checks. */
  readonly x509: X509Certificate
}

type Extensions = Pick<
  Certificate,
  | 'uriSans'
  | 'dnsSans'
  | 'isCa'
  | 'pathLength'
  | 'keyUsage'
  | 'extKeyUsage'
  | 'nameConstraints'
  | 'critical'
  | 'unknownCritical'
>

/** One certificate, PEM or DER. @throws DerError if it is not an X.509 v3 certificate in DER. */
export function parseCertificate(pemOrDer: string | Buffer): Certificate {
  const x509 = openssl(pemOrDer)
  const { raw } = x509
  const [tbs] = readInside(readDer(raw), TAG.sequence)
  const [version, serial, , issuer, validity, subject, spki, ...optional] = readInside(tbs, TAG.sequence)
  if (!version || !issuer || !subject || !spki) throw new DerError('a certificate with parts missing')
  checkVersion3(version)
  const [notBefore, notAfter] = readInside(validity, TAG.sequence)
  return {
    serial: hexSerial(readInteger(serial)),
    notBefore: readTime(notBefore),
    notAfter: readTime(notAfter),
    subject: subject.raw,
    issuer: issuer.raw,
    spki: spki.raw,
    ...readExtensions(optional.find(({ tag }) => tag === contextTag(3, true))),
    fingerprint256: x509.fingerprint256.replaceAll(':', '').toLowerCase(),
    pem: encodePem('CERTIFICATE', raw),
    isSignedBy: signer => issuer.raw.equals(signer.subject) && verifies(x509, signer.x509),
    x509,
  }
}

/** DER goes in as PEM: Node looks for a PEM block in any input first, and would find one that hides inside the DER. */
function openssl(pemOrDer: string | Buffer): X509Certificate {
  const isDer = typeof pemOrDer !== 'string'
  let x509: X509Certificate
  try {
    x509 = new X509Certificate(isDer ? encodePem('CERTIFICATE', pemOrDer) : pemOrDer)
  } catch (cause) {
    throw new DerError('not a certificate', { cause })
  }
  if (isDer && !x509.raw.equals(pemOrDer)) throw new DerError('bytes behind the certificate')
  return x509
}

function verifies(signed: X509Certificate, signer: X509Certificate): boolean {
  try {
    return signed.verify(signer.publicKey)
  } catch {
    return false // a key that OpenSSL cannot use
  }
}

function checkVersion3(version: DerValue): void {
  const [number, ...rest] = readInside(version, contextTag(0, true))
  if (rest.length > 0 || readInteger(number).toString('hex') !== '02') throw new DerError('not version 3')
}

const hexSerial = (integer: Buffer): string =>
  (integer.length > 1 && integer[0] === 0 ? integer.subarray(1) : integer).toString('hex')

function readExtensions(wrapper: DerValue | undefined): Extensions {
  const found = new Map<string, DerValue>()
  const criticals = new Set<string>()
  const list = wrapper ? readInside(readInside(wrapper, wrapper.tag)[0], TAG.sequence) : []
  for (const extension of list) {
    const parts = readInside(extension, TAG.sequence)
    const oid = readOid(parts[0])
    const critical = parts.length === 3 && readBoolean(parts[1])
    if (parts.length < 2 || parts.length > 3) throw new DerError(`extension ${oid} has ${parts.length} parts`)
    if (found.has(oid)) throw new DerError(`extension ${oid} occurs twice`)
    found.set(oid, readDer(contentOf(parts.at(-1), TAG.octetString)))
    if (critical) criticals.add(oid)
  }
  const keyUsage = found.get(OID.keyUsage)
  const extKeyUsage = found.get(OID.extKeyUsage)
  const nameConstraints = found.get(OID.nameConstraints)
  return {
    ...readNames(found.get(OID.subjectAltName)),
    ...readBasicConstraints(found.get(OID.basicConstraints)),
    ...(keyUsage && { keyUsage: readKeyUsage(keyUsage) }),
    ...(extKeyUsage && { extKeyUsage: readInside(extKeyUsage, TAG.sequence).map(readOid) }),
    ...(nameConstraints && { nameConstraints }),
    critical: criticals,
    unknownCritical: [...criticals].filter(oid => !UNDERSTOOD.has(oid)),
  }
}

const UNDERSTOOD: ReadonlySet<string> = new Set([
  OID.keyUsage,
  OID.extKeyUsage,
  OID.subjectAltName,
  OID.basicConstraints,
  OID.nameConstraints,
])

function readNames(san: DerValue | undefined): Pick<Extensions, 'uriSans' | 'dnsSans'> {
  const names = san ? readInside(san, TAG.sequence) : []
  const ofKind = (number: number) =>
    names.filter(({ tag }) => tag === contextTag(number)).map(({ content }) => content.toString('latin1'))
  return { uriSans: ofKind(6), dnsSans: ofKind(2) }
}

function readBasicConstraints(value: DerValue | undefined): Pick<Extensions, 'isCa' | 'pathLength'> {
  const parts = value ? readInside(value, TAG.sequence) : []
  const isCa = parts[0]?.tag === TAG.boolean && readBoolean(parts[0])
  const length = parts.at(-1)
  if (length?.tag !== TAG.integer) return { isCa }
  const bytes = readInteger(length)
  if (bytes.length !== 1 || bytes.readInt8() < 0) throw new DerError('an impossible path length')
  return { isCa, pathLength: bytes.readInt8() }
}

function readKeyUsage(value: DerValue): ReadonlySet<KeyUsage> {
  const { bytes } = readBitString(value)
  return new Set(KEY_USAGES.filter((_, bit) => ((bytes[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0))
}

// PKCS#10 requests that differ from the canonical one in any part that a case asks for. Built from single DER values,
// since no library writes what a forger would.
import { contextTag, der, derOid, TAG } from '../../shared/x509/der.ts'
import { OID } from '../../shared/x509/oids.ts'
import { encodePem } from '../../shared/x509/pem.ts'
import { type Hash, type KeyKind, keysOf, otherKeysOf, signWith } from './forged-keys.ts'

export type Alter = (bytes: Buffer) => Buffer

export type RequestParts = {
  readonly key?: KeyKind
  /** Changes the SubjectPublicKeyInfo; it is signed by the key of before. */
  readonly spki?: Alter
  /** Signed by another key of the same kind. */
  readonly foreignSignature?: boolean
  /** Of an ECDSA signature, which says so. */
  readonly hash?: Hash
  /** Changes the signature. */
  readonly signature?: Alter
  /** The AlgorithmIdentifier, whatever signed. */
  readonly algorithm?: Buffer
  readonly version?: number
  /** A Name in place of the empty one. */
  readonly subject?: Buffer
  /** GeneralNames in place of the one URI. */
  readonly names?: readonly Buffer[]
  /** The SAN extension, in place of the one with `names`. */
  readonly san?: Buffer
  readonly sanCritical?: boolean
  /** Further extensions, behind the SAN. */
  readonly extensions?: readonly Buffer[]
  /** Further attributes, behind extensionRequest. */
  readonly attributes?: readonly Buffer[]
  /** No extensionRequest at all. */
  readonly withoutExtensions?: boolean
  /** Changes the CertificationRequestInfo before it is signed. */
  readonly info?: Alter
  /** Changes the whole request. */
  readonly der?: Alter
}

const text = (value: string): Buffer => Buffer.from(value)
const latin1 = (value: string): Buffer => Buffer.from(value, 'latin1')
export const utf8String = (value: string): Buffer => der(0x0c, text(value))
const bmpString = (value: string): Buffer => der(0x1e, Buffer.from(value, 'utf16le').swap16())

export const uri = (value: string): Buffer => der(contextTag(6), text(value))
export const dns = (value: string): Buffer => der(contextTag(2), text(value))
export const email = (value: string): Buffer => der(contextTag(1), text(value))
export const ip = (...octets: number[]): Buffer => der(contextTag(7), Buffer.from(octets))
/** A Microsoft user principal name, which some directories log in with. */
export const otherName = (value: string): Buffer =>
  der(contextTag(0, true), derOid('1.3.6.1.4.1.311.20.2.3'), der(contextTag(0, true), utf8String(value)))
/** RFC 4985: the name of a service. */
export const serviceName = (value: string): Buffer =>
  der(contextTag(0, true), derOid('1.3.6.1.5.5.7.8.7'), der(contextTag(0, true), der(0x16, latin1(value))))
export const registeredId = (oid: string): Buffer => der(contextTag(8), derOid(oid).subarray(2))
export const directoryName = (commonName: string): Buffer =>
  der(contextTag(4, true), nameOf([COMMON_NAME, commonName]))

/** Attribute types of X.520. */
export const COMMON_NAME = '2.5.4.3'
export const ORGANIZATION = '2.5.4.10'
export const SERIAL_NUMBER = '2.5.4.5'
export const USER_ID = '0.9.2342.19200300.100.1.1'

/** A Name with one RDN for each attribute. */
export const nameOf = (...attributes: readonly (readonly [oid: string, value: string])[]): Buffer =>
  der(TAG.sequence, ...attributes.map(one => der(TAG.set, attributeOf(one))))
/** A Name whose one RDN has all the attributes. */
export const multiValued = (...attributes: readonly (readonly [oid: string, value: string])[]): Buffer =>
  der(TAG.sequence, der(TAG.set, ...attributes.map(attributeOf)))
export const bmpName = (commonName: string): Buffer =>
  der(TAG.sequence, der(TAG.set, der(TAG.sequence, derOid(COMMON_NAME), bmpString(commonName))))
const attributeOf = ([oid, value]: readonly [string, string]): Buffer =>
  der(TAG.sequence, derOid(oid), utf8String(value))

const TRUE = der(TAG.boolean, Buffer.from([0xff]))
/** What DER leaves out, being the default. */
const FALSE = der(TAG.boolean, Buffer.from([0]))

export const extension = (oid: string, value: Buffer, critical = false): Buffer =>
  der(TAG.sequence, derOid(oid), ...(critical ? [TRUE] : []), der(TAG.octetString, value))

export const attribute = (oid: string, ...values: Buffer[]): Buffer =>
  der(TAG.sequence, derOid(oid), der(TAG.set, ...values))

export const caTrue = (): Buffer => extension(OID.basicConstraints, der(TAG.sequence, TRUE), true)
export const caFalse = (): Buffer => extension(OID.basicConstraints, der(TAG.sequence), true)
export const caPathLength = (length: number): Buffer => {
  const constraints = der(TAG.sequence, TRUE, der(TAG.integer, Buffer.from([length])))
  return extension(OID.basicConstraints, constraints, true)
}
export const keyUsage = (unusedBits: number, bits: number): Buffer =>
  extension(OID.keyUsage, der(TAG.bitString, Buffer.from([unusedBits, bits])), true)
export const keyCertSign = (): Buffer => keyUsage(1, 0x06)
export const extKeyUsage = (...oids: string[]): Buffer =>
  extension(OID.extKeyUsage, der(TAG.sequence, ...oids.map(derOid)))
export const serverAuth = (): Buffer => extKeyUsage(OID.serverAuth)
export const challengePassword = (): Buffer => attribute('1.2.840.113549.1.9.7', utf8String('open sesame'))
export const sanOf = (names: readonly Buffer[], critical = true): Buffer =>
  extension(OID.subjectAltName, der(TAG.sequence, ...names), critical)
/** `value` in place of the list of names. */
export const rawSan = (value: Buffer): Buffer => extension(OID.subjectAltName, value, true)
/** Not critical, and says so. */
export const sanExplicitlyNotCritical = (names: readonly Buffer[]): Buffer =>
  der(TAG.sequence, derOid(OID.subjectAltName), FALSE, der(TAG.octetString, der(TAG.sequence, ...names)))
export const extensionRequest = (...extensions: Buffer[]): Buffer =>
  attribute(OID.extensionRequest, der(TAG.sequence, ...extensions))
/** The attribute of before RFC 2985, which Windows still writes and some signers still read. */
export const microsoftExtensionRequest = (...extensions: Buffer[]): Buffer =>
  attribute('1.3.6.1.4.1.311.2.1.14', der(TAG.sequence, ...extensions))

/** The value with its length in one byte more than needed: BER, and not DER. */
export function longLength(value: Buffer): Buffer {
  const first = value.readUInt8(1)
  const [header, start] =
    first < 0x80
      ? [[0x81, first], 2]
      : [[first + 1, 0, ...value.subarray(2, 2 + (first & 0x7f))], 2 + (first & 0x7f)]
  return Buffer.concat([value.subarray(0, 1), Buffer.from(header), value.subarray(start)])
}
/** The constructed value in BER's indefinite form. */
export function indefinite(value: Buffer): Buffer {
  const first = value.readUInt8(1)
  const start = first < 0x80 ? 2 : 2 + (first & 0x7f)
  return Buffer.concat([value.subarray(0, 1), Buffer.from([0x80]), value.subarray(start), Buffer.alloc(2)])
}

/** A request for `identity`, canonical but for `parts`. */
export function forgeRequest(identity: string, parts: RequestParts = {}): string {
  const { key = 'p256', hash = 'sha256' } = parts
  const keys = keysOf(key)
  const info = (parts.info ?? same)(
    infoOf(identity, parts, keys.publicKey.export({ format: 'der', type: 'spki' })),
  )
  const { algorithm, signature } = signWith(key, parts.foreignSignature ? otherKeysOf(key) : keys, info, hash)
  const bits = der(TAG.bitString, Buffer.from([0]), (parts.signature ?? same)(signature))
  const request = der(TAG.sequence, info, parts.algorithm ?? algorithm, bits)
  return encodePem('CERTIFICATE REQUEST', (parts.der ?? same)(request))
}

const same: Alter = bytes => bytes

function infoOf(identity: string, parts: RequestParts, spki: Buffer): Buffer {
  const { version = 0, names = [uri(identity)], sanCritical = true, spki: alter = same } = parts
  const { san = sanOf(names, sanCritical), extensions = [] } = parts
  const requested = parts.withoutExtensions ? [] : [extensionRequest(san, ...extensions)]
  return der(
    TAG.sequence,
    der(TAG.integer, Buffer.from([version])),
    parts.subject ?? der(TAG.sequence),
    alter(spki),
    der(contextTag(0, true), ...requested, ...(parts.attributes ?? [])),
  )
}

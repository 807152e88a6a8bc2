// PKCS#10 requests that differ from the canonical one in any part that a case asks for. Built from single DER values,
// since no library writes what a forger would.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { contextTag, der, derOid, TAG } from '../../shared/x509/der.ts'
import { OID } from '../../shared/x509/oids.ts'
import { encodePem } from '../../shared/x509/pem.ts'

export type KeyKind = 'p256' | 'p384' | 'secp256k1' | 'rsa1024' | 'rsa2048' | 'ed25519'

export type RequestParts = {
  readonly key?: KeyKind
  /** Signed by another key of the same kind. */
  readonly foreignSignature?: boolean
  /** Signed with SHA-384, which says so. */
  readonly sha384?: boolean
  readonly version?: number
  readonly commonName?: string
  /** GeneralNames in place of the one URI. */
  readonly names?: readonly Buffer[]
  readonly sanCritical?: boolean
  /** Further extensions, behind the SAN. */
  readonly extensions?: readonly Buffer[]
  /** Further attributes, behind extensionRequest. */
  readonly attributes?: readonly Buffer[]
  /** No extensionRequest at all. */
  readonly withoutExtensions?: boolean
}

const text = (value: string): Buffer => Buffer.from(value, 'latin1')
const utf8String = (value: string): Buffer => der(0x0c, Buffer.from(value))

export const uri = (value: string): Buffer => der(contextTag(6), text(value))
export const dns = (value: string): Buffer => der(contextTag(2), text(value))
export const email = (value: string): Buffer => der(contextTag(1), text(value))
export const ip = (...octets: number[]): Buffer => der(contextTag(7), Buffer.from(octets))
/** A Microsoft user principal name, which some directories log in with. */
export const otherName = (value: string): Buffer =>
  der(contextTag(0, true), derOid('1.3.6.1.4.1.311.20.2.3'), der(contextTag(0, true), utf8String(value)))
export const directoryName = (commonName: string): Buffer => der(contextTag(4, true), nameOf(commonName))

const TRUE = der(TAG.boolean, Buffer.from([0xff]))

export const extension = (oid: string, value: Buffer, critical = false): Buffer =>
  der(TAG.sequence, derOid(oid), ...(critical ? [TRUE] : []), der(TAG.octetString, value))

export const attribute = (oid: string, ...values: Buffer[]): Buffer =>
  der(TAG.sequence, derOid(oid), der(TAG.set, ...values))

export const caTrue = (): Buffer => extension(OID.basicConstraints, der(TAG.sequence, TRUE), true)
export const keyCertSign = (): Buffer =>
  extension(OID.keyUsage, der(TAG.bitString, Buffer.from([1, 0x06])), true)
export const serverAuth = (): Buffer => extension(OID.extKeyUsage, der(TAG.sequence, derOid(OID.serverAuth)))
export const challengePassword = (): Buffer => attribute('1.2.840.113549.1.9.7', utf8String('open sesame'))
export const sanOf = (names: readonly Buffer[], critical = true): Buffer =>
  extension(OID.subjectAltName, der(TAG.sequence, ...names), critical)
export const extensionRequest = (...extensions: Buffer[]): Buffer =>
  attribute(OID.extensionRequest, der(TAG.sequence, ...extensions))

const nameOf = (commonName: string): Buffer =>
  der(TAG.sequence, der(TAG.set, der(TAG.sequence, derOid('2.5.4.3'), utf8String(commonName))))

type Keys = { readonly publicKey: KeyObject; readonly privateKey: KeyObject }

function generate(kind: KeyKind): Keys {
  switch (kind) {
    case 'p256':
      return generateKeyPairSync('ec', { namedCurve: 'P-256' })
    case 'p384':
      return generateKeyPairSync('ec', { namedCurve: 'P-384' })
    case 'secp256k1':
      return generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
    case 'rsa1024':
      return generateKeyPairSync('rsa', { modulusLength: 1024 })
    case 'rsa2048':
      return generateKeyPairSync('rsa', { modulusLength: 2048 })
    case 'ed25519':
      return generateKeyPairSync('ed25519')
  }
}

const NULL = der(0x05)
const SIGNATURES = {
  ecdsa256: { hash: 'sha256', algorithm: der(TAG.sequence, derOid(OID.ecdsaWithSha256)) },
  ecdsa384: { hash: 'sha384', algorithm: der(TAG.sequence, derOid('1.2.840.10045.4.3.3')) },
  rsa: { hash: 'sha256', algorithm: der(TAG.sequence, derOid('1.2.840.113549.1.1.11'), NULL) },
  ed25519: { hash: null, algorithm: der(TAG.sequence, derOid('1.3.101.112')) },
}

function signatureFor(kind: KeyKind, sha384: boolean): (typeof SIGNATURES)[keyof typeof SIGNATURES] {
  if (kind === 'ed25519') return SIGNATURES.ed25519
  if (kind.startsWith('rsa')) return SIGNATURES.rsa
  return sha384 ? SIGNATURES.ecdsa384 : SIGNATURES.ecdsa256
}

/** A request for `identity`, canonical but for `parts`. */
export function forgeRequest(identity: string, parts: RequestParts = {}): string {
  const { key = 'p256', version = 0, names = [uri(identity)], sanCritical = true, commonName } = parts
  const keys = generate(key)
  const attributes = [
    ...(parts.withoutExtensions
      ? []
      : [extensionRequest(sanOf(names, sanCritical), ...(parts.extensions ?? []))]),
    ...(parts.attributes ?? []),
  ]
  const info = der(
    TAG.sequence,
    der(TAG.integer, Buffer.from([version])),
    commonName === undefined ? der(TAG.sequence) : nameOf(commonName),
    keys.publicKey.export({ format: 'der', type: 'spki' }),
    der(contextTag(0, true), ...attributes),
  )
  const { hash, algorithm } = signatureFor(key, parts.sha384 ?? false)
  const signer = parts.foreignSignature ? generate(key) : keys
  const signature = der(TAG.bitString, Buffer.from([0]), sign(hash, info, signer.privateKey))
  return encodePem('CERTIFICATE REQUEST', der(TAG.sequence, info, algorithm, signature))
}

// Keys that a forger would put into a request, and signatures by them: weak, of other curves, off their curve, written
// in another form than the one that OpenSSL and Go write. A pair of each kind is made once: what a key says of its
// holder is the request's business, not the key's.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { der, derOid, readBitString, readDer, readInside, readInteger, TAG } from '../../shared/x509/der.ts'
import { OID } from '../../shared/x509/oids.ts'

const KINDS = {
  p256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  p384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  p521: () => generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  secp256k1: () => generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
  rsa1024: () => generateKeyPairSync('rsa', { modulusLength: 1024 }),
  rsa2048: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ed25519: () => generateKeyPairSync('ed25519'),
}
export type KeyKind = keyof typeof KINDS
export type Keys = { readonly publicKey: KeyObject; readonly privateKey: KeyObject }

const made = new Map<KeyKind, Keys>()

export function keysOf(kind: KeyKind): Keys {
  const keys = made.get(kind) ?? KINDS[kind]()
  made.set(kind, keys)
  return keys
}

/** Another pair of the kind than `keysOf` gives. */
export const otherKeysOf = (kind: KeyKind): Keys => KINDS[kind]()

export type Hash = 'sha1' | 'sha256' | 'sha384' | 'sha512'

const NULL = der(0x05)
const ECDSA_WITH: Readonly<Record<Hash, string>> = {
  sha1: '1.2.840.10045.4.1',
  sha256: OID.ecdsaWithSha256,
  sha384: '1.2.840.10045.4.3.3',
  sha512: '1.2.840.10045.4.3.4',
}
export const ecdsaWith = (hash: Hash, ...parameters: Buffer[]): Buffer =>
  der(TAG.sequence, derOid(ECDSA_WITH[hash]), ...parameters)
/** What no ECDSA signature has, and some writers put there all the same. */
export const NULL_PARAMETERS = NULL

/** The AlgorithmIdentifier that goes with a key, and the signature of `info`. */
export function signWith(
  kind: KeyKind,
  { privateKey }: Keys,
  info: Buffer,
  hash: Hash,
): { algorithm: Buffer; signature: Buffer } {
  if (kind === 'ed25519')
    return { algorithm: der(TAG.sequence, derOid('1.3.101.112')), signature: sign(null, info, privateKey) }
  const algorithm = kind.startsWith('rsa')
    ? der(TAG.sequence, derOid('1.2.840.113549.1.1.11'), NULL)
    : ecdsaWith(hash)
  return { algorithm, signature: sign(hash, info, privateKey) }
}

const pointOf = (spki: Buffer): Buffer => {
  const [, key] = readInside(readDer(spki), TAG.sequence)
  return readBitString(key).bytes
}
const P256 = der(TAG.sequence, derOid('1.2.840.10045.2.1'), derOid('1.2.840.10045.3.1.7'))
const spkiOf = (algorithm: Buffer, point: Buffer): Buffer =>
  der(TAG.sequence, algorithm, der(TAG.bitString, Buffer.from([0]), point))

/** Other ways to write a P-256 key, and what is none. */
export const compressed = (spki: Buffer): Buffer => {
  const point = pointOf(spki)
  const odd = (point.at(-1) ?? 0) & 1
  return spkiOf(P256, Buffer.concat([Buffer.from([2 + odd]), point.subarray(1, 33)]))
}
/** X9.62's hybrid form: both coordinates, and the sign of y once more in the first byte. */
export const hybrid = (spki: Buffer): Buffer => {
  const point = Buffer.from(pointOf(spki))
  point.writeUInt8(6 + ((point.at(-1) ?? 0) & 1), 0)
  return spkiOf(P256, point)
}
export const offCurve = (spki: Buffer): Buffer => {
  const changed = Buffer.from(spki)
  changed.writeUInt8(changed.readUInt8(spki.length - 1) ^ 1, spki.length - 1)
  return changed
}
export const atInfinity = (): Buffer => spkiOf(P256, Buffer.from([0]))
export const origin = (): Buffer => spkiOf(P256, Buffer.concat([Buffer.from([4]), Buffer.alloc(64)]))
export const withoutCurve = (spki: Buffer): Buffer =>
  spkiOf(der(TAG.sequence, derOid('1.2.840.10045.2.1')), pointOf(spki))
/** A key for key agreement alone (id-ecDH), which signs nothing. */
export const forAgreement = (spki: Buffer): Buffer =>
  spkiOf(der(TAG.sequence, derOid('1.3.132.1.12'), derOid('1.2.840.10045.3.1.7')), pointOf(spki))
export const withTrailingByte = (spki: Buffer): Buffer =>
  spkiOf(P256, Buffer.concat([pointOf(spki), Buffer.alloc(1)]))
/** P-256 by its numbers in place of its name: whoever trusts the numbers can be given a generator of their choice. */
export const explicitCurve = (spki: Buffer): Buffer => {
  const number = (hex: string) => der(TAG.integer, Buffer.from(`00${hex}`, 'hex'))
  const octets = (hex: string) => der(TAG.octetString, Buffer.from(hex, 'hex'))
  const p = 'ffffffff00000001000000000000000000000000ffffffffffffffffffffffff'
  const a = 'ffffffff00000001000000000000000000000000fffffffffffffffffffffffc'
  const b = '5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b'
  const g =
    '046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5'
  const n = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551'
  const field = der(TAG.sequence, derOid('1.2.840.10045.1.1'), number(p))
  const curve = der(TAG.sequence, octets(a), octets(b))
  const one = der(TAG.integer, Buffer.from([1]))
  const parameters = der(TAG.sequence, one, field, curve, octets(g), number(n), one)
  return spkiOf(der(TAG.sequence, derOid('1.2.840.10045.2.1'), parameters), pointOf(spki))
}

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

/** (r, n − s): as valid as (r, s), by whoever has seen that. */
export function twinOf(signature: Buffer): Buffer {
  const [r, s] = readInside(readDer(signature), TAG.sequence)
  const twin = P256_ORDER - BigInt(`0x${readInteger(s).toString('hex')}`)
  const bytes = Buffer.from(twin.toString(16).padStart(66, '0'), 'hex')
  const start = bytes.findIndex((byte, index) => byte !== 0 || bytes.readUInt8(index + 1) >= 0x80)
  return der(TAG.sequence, r?.raw ?? Buffer.alloc(0), der(TAG.integer, bytes.subarray(start)))
}

// Keys and signatures that a request must not carry.
import { der, derOid, TAG } from '../../../shared/x509/der.ts'
import {
  atInfinity,
  compressed,
  ecdsaWith,
  explicitCurve,
  forAgreement,
  hybrid,
  NULL_PARAMETERS,
  offCurve,
  origin,
  withoutCurve,
  withTrailingByte,
} from '../../support/forged-keys.ts'
import type { RequestParts } from '../../support/forged-requests.ts'
import type { Forgery } from './cases.ts'

type Named = Readonly<Record<string, RequestParts>>

const refused = (rule: string, because: RegExp, layer: Forgery['layer'], cases: Named): Forgery[] =>
  Object.entries(cases).map(([name, csr]) => ({ name, csr, rule, because, ...(layer && { layer }) }))

const keys: readonly Forgery[] = [
  ...refused('key', /must be ECDSA P-256/, undefined, {
    'a weak key: RSA of 1024 bits': { key: 'rsa1024' },
    'RSA of 2048 bits': { key: 'rsa2048' },
    'P-384': { key: 'p384' },
    'P-521': { key: 'p521' },
    Ed25519: { key: 'ed25519' },
  }),
  ...refused('key', /must be ECDSA P-256/, 'API server', {
    'another curve of 256 bits': { key: 'secp256k1' },
    'a compressed point': { spki: compressed },
    'a point in hybrid form': { spki: hybrid },
    'the point at infinity': { spki: atInfinity },
    'P-256 by its numbers': { spki: explicitCurve },
    'a key without its curve': { spki: withoutCurve },
    'a key for key agreement': { spki: forAgreement },
    'a byte behind the point': { spki: withTrailingByte },
    'no key': { spki: () => der(TAG.sequence) },
  }),
]

const altered = (bytes: Buffer): Buffer => {
  const copy = Buffer.from(bytes)
  copy.writeUInt8(copy.readUInt8(copy.length - 1) ^ 1, copy.length - 1)
  return copy
}
const number = (value: number): Buffer => der(TAG.integer, Buffer.from([value]))
/** `bits` in place of the BIT STRING of the signature. */
const signatureBits =
  (bits: Buffer) =>
  (request: Buffer): Buffer => {
    const body = request.subarray(request.readUInt8(1) < 0x80 ? 2 : 2 + (request.readUInt8(1) & 0x7f))
    const at = body.lastIndexOf(ecdsaWith('sha256')) + ecdsaWith('sha256').length
    return der(TAG.sequence, body.subarray(0, at), bits)
  }

const signatures: readonly Forgery[] = [
  ...refused('signature', /not signed with ECDSA-SHA256 by the key/, undefined, {
    'a signature with SHA-1': { hash: 'sha1' },
    'a signature with SHA-384': { hash: 'sha384' },
    'a signature with SHA-512': { hash: 'sha512' },
  }),
  ...refused('signature', /not signed with ECDSA-SHA256 by the key/, 'API server', {
    'a signature by another key': { foreignSignature: true },
    'a point off the curve': { spki: offCurve },
    'the point (0, 0)': { spki: origin },
    'a changed signature': { signature: altered },
    'an empty signature': { signature: () => Buffer.alloc(0) },
    'the signature (0, 0)': { signature: () => der(TAG.sequence, number(0), number(0)) },
    'the signature (1, 1)': { signature: () => der(TAG.sequence, number(1), number(1)) },
    'a byte behind the signature': { signature: bytes => Buffer.concat([bytes, Buffer.alloc(1)]) },
    'a signature that says SHA-384 and is of SHA-256': { algorithm: ecdsaWith('sha384') },
    'a signature of RSA by its name': {
      algorithm: der(TAG.sequence, derOid('1.2.840.113549.1.1.11'), NULL_PARAMETERS),
    },
    'a signature algorithm that nobody knows': { algorithm: der(TAG.sequence, derOid('1.2.3.4')) },
  }),
  ...refused('signature', /not signed with ECDSA-SHA256 by the key/, undefined, {
    'parameters of the signature algorithm, which it has none of': {
      algorithm: ecdsaWith('sha256', NULL_PARAMETERS),
    },
  }),
  ...refused('pkcs10', /not a PKCS#10 request in DER/, 'API server', {
    'a signature with unused bits that are set': {
      der: signatureBits(der(TAG.bitString, Buffer.from([3, 0xff]))),
    },
    'no signature': { der: signatureBits(Buffer.alloc(0)) },
  }),
]

export const forgedKeys: readonly Forgery[] = [...keys, ...signatures]

// A PKCS#10 request for a serving certificate, as openssl, cfssl and Go's crypto write it: many forms are right, unlike a
// sidecar's. What is signed is rebuilt from what is read here, so everything else in a request comes to nothing, except
// what would mean that its author expects another certificate than we sign: that fails, and says so.
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { parseCsr } from '../../shared/x509/csr.ts'
import {
  contentOf,
  contextTag,
  type DerValue,
  readBitString,
  readBoolean,
  readDer,
  readInside,
  readOid,
  TAG,
} from '../../shared/x509/der.ts'
import { OID } from '../../shared/x509/oids.ts'
import { readServingNames, type ServingNames, unservable } from './serving-names.ts'

export type ServingRequest = ServingNames & {
  /** SubjectPublicKeyInfo. */
  readonly publicKey: Buffer
  readonly keyType: 'ec' | 'rsa' | 'ed25519'
  readonly commonName?: string
}

/** @throws PosternError PSTN_CSR_FAILED or PSTN_CSR_DENIED with what is wrong; DerError for broken DER. */
export function readServingRequest(pem: string): ServingRequest {
  const { der, info, spki } = parseCsr(pem)
  const [, algorithm, signature] = readInside(readDer(der), TAG.sequence)
  const [, subject, , attributes] = readInside(readDer(info), TAG.sequence)
  const { key, keyType } = readKey(spki)
  if (!isSigned({ info, key, keyType, algorithm, signature }))
    throw unservable('it is not signed by the key that it holds, with SHA-256 or better')
  const extensions = readExtensions(attributes)
  const constraints = extensions.get(OID.basicConstraints)
  if (constraints && claimsCa(constraints))
    throw unservable('it asks for a CA (basicConstraints), and a serving certificate is none')
  const commonName = readCommonName(subject)
  return {
    publicKey: spki,
    keyType,
    ...(commonName !== undefined && { commonName }),
    ...readServingNames(extensions.get(OID.subjectAltName)),
  }
}

const CURVES = ['prime256v1', 'secp384r1']
const MIN_RSA_BITS = 2048
/** A larger one costs every handshake, and us, more than it is worth. */
const MAX_RSA_BITS = 8192
const MIN_RSA_EXPONENT = 65_537n

function readKey(spki: Buffer): { key: KeyObject; keyType: ServingRequest['keyType'] } {
  const key = loadKey(spki)
  const { asymmetricKeyType: keyType, asymmetricKeyDetails: details = {} } = key ?? {}
  const { namedCurve = '', modulusLength = 0, publicExponent = 0n } = details
  if (key && keyType === 'ed25519') return { key, keyType }
  if (key && keyType === 'ec' && CURVES.includes(namedCurve)) return { key, keyType }
  const isSafeRsa =
    modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS && publicExponent >= MIN_RSA_EXPONENT
  if (key && keyType === 'rsa' && isSafeRsa) return { key, keyType }
  const accepted = `ECDSA P-256 or P-384, RSA of ${MIN_RSA_BITS} to ${MAX_RSA_BITS} bits, or Ed25519`
  throw unservable(`the public key must be ${accepted}`)
}

/** Undefined for what is no key, or is one in another encoding than everybody writes. */
function loadKey(spki: Buffer): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' })
    return key.export({ format: 'der', type: 'spki' }).equals(spki) ? key : undefined
  } catch {
    return undefined
  }
}

/** Ed25519 hashes by itself. */
const SIGNATURES: Readonly<Record<string, readonly [ServingRequest['keyType'], string | null]>> = {
  [OID.ecdsaWithSha256]: ['ec', 'sha256'],
  [OID.ecdsaWithSha384]: ['ec', 'sha384'],
  [OID.ecdsaWithSha512]: ['ec', 'sha512'],
  [OID.rsaWithSha256]: ['rsa', 'sha256'],
  [OID.rsaWithSha384]: ['rsa', 'sha384'],
  [OID.rsaWithSha512]: ['rsa', 'sha512'],
  [OID.ed25519]: ['ed25519', null],
}

type Signed = {
  readonly info: Buffer
  readonly key: KeyObject
  readonly keyType: ServingRequest['keyType']
  readonly algorithm: DerValue | undefined
  readonly signature: DerValue | undefined
}

function isSigned({ info, key, keyType, algorithm, signature }: Signed): boolean {
  const [signs, digest] = SIGNATURES[readOid(readInside(algorithm, TAG.sequence)[0])] ?? []
  const { bytes, unusedBits } = readBitString(signature)
  return signs === keyType && unusedBits === 0 && verify(digest, info, key, bytes)
}

/** Those of the one extensionRequest, by OID; other attributes, such as a challenge password, mean nothing here. */
function readExtensions(attributes: DerValue | undefined): ReadonlyMap<string, DerValue> {
  const requests = readInside(attributes, contextTag(0, true))
    .map(attribute => readInside(attribute, TAG.sequence))
    .filter(([oid]) => readOid(oid) === OID.extensionRequest)
  const values = requests.flatMap(([, set]) => readInside(set, TAG.set))
  if (values.length > 1) throw unservable('it asks for extensions twice')
  const found = new Map<string, DerValue>()
  for (const extension of values[0] ? readInside(values[0], TAG.sequence) : []) {
    const parts = readInside(extension, TAG.sequence)
    const oid = readOid(parts[0])
    if (found.has(oid)) throw unservable(`it asks for the extension ${oid} twice`)
    found.set(oid, readDer(contentOf(parts.at(-1), TAG.octetString)))
  }
  return found
}

function claimsCa(constraints: DerValue): boolean {
  const [first] = readInside(constraints, TAG.sequence)
  return first?.tag === TAG.boolean && readBoolean(first)
}

/** X.520, ub-common-name. */
const LABEL = /^[ -~]{1,64}$/
/** UTF8String, PrintableString, IA5String. */
const TEXT_TAGS = [0x0c, 0x13, 0x16]

/** Of a subject only the common name is kept, as a label: no client may judge by it where there are SANs (RFC 9525, 2). */
function readCommonName(subject: DerValue | undefined): string | undefined {
  const attributes = readInside(subject, TAG.sequence)
    .flatMap(rdn => readInside(rdn, TAG.set))
    .map(attribute => readInside(attribute, TAG.sequence))
  const [name, ...more] = attributes.filter(([oid]) => readOid(oid) === OID.commonName)
  if (!name) return undefined
  if (more.length > 0) throw unservable('it has two common names')
  const [, value] = name
  const text = value?.content.toString('latin1') ?? ''
  if (!value || !TEXT_TAGS.includes(value.tag) || !LABEL.test(text))
    throw unservable('its common name is not of 1 to 64 printable ASCII characters')
  return text
}

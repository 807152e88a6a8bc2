// The format in which trust domains exchange their roots: a JWK Set (SPIFFE Trust Domain and Bundle, section 4; X.509-SVID,
// section 6; RFC 7517). What the standard says to ignore is ignored and told; what is damaged is refused with its place,
// so that the last good bundle stays in force rather than a part of a new one.
import { createPublicKey } from 'node:crypto'
import { PosternError } from './errors.ts'
import { isTrustDomain } from './spiffe-id.ts'
import type { TrustBundle } from './trust-bundle.ts'
import { type Certificate, parseCertificate } from './x509/certificate.ts'
import { signingFlaw } from './x509/svid.ts'

/** The document names no trust domain: whoever reads it has to know whose it is (section 3). */
export type SpiffeBundle = TrustBundle & {
  /** Grows with each change; 64 bits. */
  readonly sequence?: bigint
  /** How often to look for a newer one. */
  readonly refreshHintSeconds?: number
}

export type ReadBundle = {
  readonly bundle: SpiffeBundle
  /** What was passed over, with its place: `keys[1]: its use is "jwt-svid"`. */
  readonly ignored: readonly string[]
}

const X509_USE = 'x509-svid'
const KEY_TYPES: ReadonlySet<unknown> = new Set(['EC', 'RSA', 'OKP'])
/** Members of a JWK that say which key it is (RFC 7518, section 6; RFC 8037). */
const KEY_MEMBERS = ['crv', 'x', 'y', 'n', 'e'] as const
const MAX_BYTES = 1024 * 1024
const MAX_KEYS = 1024
const MAX_ROOTS = 256
const MAX_SEQUENCE = 2n ** 64n - 1n

/** @throws PosternError PSTN_TRUST_INVALID with the place of what is wrong. */
export function readSpiffeBundle(text: string, trustDomain: string, mostRoots = MAX_ROOTS): ReadBundle {
  if (!isTrustDomain(trustDomain)) throw invalid('', `${JSON.stringify(trustDomain)} is no trust domain`)
  if (Buffer.byteLength(text) > MAX_BYTES) throw invalid('', `more than ${MAX_BYTES} bytes`)
  const document = parse(text)
  const sequence = readInteger(document, 'spiffe_sequence', MAX_SEQUENCE)
  const hint = readInteger(document, 'spiffe_refresh_hint', BigInt(Number.MAX_SAFE_INTEGER))
  const ignored: string[] = []
  const roots = new Set<string>()
  for (const [index, entry] of keysOf(document).entries()) {
    const read = readKey(entry, `keys[${index}]`)
    if (typeof read === 'string') ignored.push(`keys[${index}]: ${read}`)
    else roots.add(read.pem)
    // Before the next is parsed: whoever serves it must not decide how long that takes, with one of them many times either.
    if (index + 1 - ignored.length > mostRoots) throw invalid('keys', `more than ${mostRoots} roots`)
  }
  const bundle = {
    trustDomain,
    roots: [...roots],
    ...(sequence !== undefined && { sequence }),
    ...(hint !== undefined && { refreshHintSeconds: Number(hint) }),
  }
  return { bundle, ignored }
}

/** @throws PosternError PSTN_TRUST_INVALID if a root is no CA certificate or its key has no JWK form. */
export function writeSpiffeBundle({ roots, sequence, refreshHintSeconds }: SpiffeBundle): string {
  const keys = [...new Set(roots)].map((root, index) => writeKey(root, `roots[${index}]`))
  const members = [
    // Not by JSON.stringify, which has no integers of 64 bits.
    ...(sequence === undefined ? [] : [`"spiffe_sequence": ${sequence}`]),
    ...(refreshHintSeconds === undefined ? [] : [`"spiffe_refresh_hint": ${refreshHintSeconds}`]),
    `"keys": ${JSON.stringify(keys, undefined, 2).replaceAll('\n', '\n  ')}`,
  ]
  return `{\n  ${members.join(',\n  ')}\n}\n`
}

const invalid = (place: string, why: string, cause?: unknown): PosternError =>
  new PosternError('PSTN_TRUST_INVALID', `SPIFFE bundle${place && `, ${place}`}: ${why}`, { cause })

type Members = Readonly<Record<string, unknown>>
const isObject = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** An integer as it is written: a double would lose the last bits of 64. */
class Literal {
  readonly source: string
  constructor(source: string) {
    this.source = source
  }
}
const INTEGERS: ReadonlySet<string> = new Set(['spiffe_sequence', 'spiffe_refresh_hint'])
function parse(text: string): Members {
  let document: unknown
  try {
    document = JSON.parse(text, (key, value: unknown, context?: { readonly source?: string }) =>
      INTEGERS.has(key) && context?.source !== undefined ? new Literal(context.source) : value,
    )
  } catch (cause) {
    throw invalid('', `not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
  if (isObject(document)) return document
  throw invalid('', 'not a JSON object')
}

function readInteger(document: Members, name: string, max: bigint): bigint | undefined {
  const value = document[name]
  if (value === undefined) return undefined
  if (value instanceof Literal && /^\d{1,20}$/.test(value.source)) {
    const integer = BigInt(value.source)
    if (integer <= max) return integer
  }
  throw invalid(name, `not an integer from 0 to ${max}`)
}

function keysOf({ keys }: Members): readonly unknown[] {
  if (!Array.isArray(keys)) throw invalid('keys', keys === undefined ? 'missing' : 'not an array')
  if (keys.length > MAX_KEYS) throw invalid('keys', `more than ${MAX_KEYS}`)
  return keys
}

/** The CA certificate of an entry, or why it is to be ignored. */
function readKey(entry: unknown, place: string): Certificate | string {
  if (!isObject(entry)) throw invalid(place, 'not a JSON object')
  const { kty, use, x5c } = entry
  if (use !== X509_USE) return use === undefined ? 'it has no use' : `its use is ${shown(use)}`
  if (!KEY_TYPES.has(kty)) return kty === undefined ? 'it has no kty' : `its kty is ${shown(kty)}`
  if (x5c === undefined) return 'it has no x5c'
  if (!Array.isArray(x5c)) throw invalid(`${place}.x5c`, 'not an array')
  if (x5c.length === 0) return 'its x5c is empty'
  // All but the first are to be ignored (X.509-SVID, section 6.2).
  const certificate = readCertificate(x5c[0], `${place}.x5c[0]`)
  const differs = differingMember(entry, publicJwk(certificate, place))
  if (differs) throw invalid(`${place}.${differs}`, 'not of the key in x5c[0]')
  return certificate
}

const shown = (value: unknown): string => JSON.stringify(value).slice(0, 40)

function readCertificate(value: unknown, place: string): Certificate {
  const der = typeof value === 'string' ? Buffer.from(value, 'base64') : Buffer.alloc(0)
  // Node skips what is not base64, and reads base64url: only the standard's form encodes back to itself.
  if (der.length === 0 || der.toString('base64') !== value)
    throw invalid(place, 'not the base64 of a certificate')
  const certificate = parsed(der, place)
  const flaw = signingFlaw(certificate)
  if (flaw) throw invalid(place, `certificate ${certificate.serial}: ${flaw}`)
  return certificate
}

function parsed(pemOrDer: string | Buffer, place: string): Certificate {
  try {
    return parseCertificate(pemOrDer)
  } catch (cause) {
    throw invalid(place, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

function publicJwk({ spki }: Certificate, place: string): Members {
  try {
    return { ...createPublicKey({ key: spki, format: 'der', type: 'spki' }).export({ format: 'jwk' }) }
  } catch (cause) {
    throw invalid(place, 'the certificate’s kind of key has no JWK form', cause)
  }
}

/** The first member of an entry that tells of another key (RFC 7517, section 4.7). */
function differingMember(entry: Members, key: Members): string | undefined {
  if (entry.kty !== key.kty) return 'kty'
  return KEY_MEMBERS.find(name => name in entry && entry[name] !== key[name])
}

function writeKey(root: string, place: string): object {
  const certificate = parsed(root, place)
  const flaw = signingFlaw(certificate)
  if (flaw) throw invalid(place, `certificate ${certificate.serial}: ${flaw}`)
  const { kty, ...members } = publicJwk(certificate, place)
  return { kty, use: X509_USE, x5c: [certificate.x509.raw.toString('base64')], ...members }
}

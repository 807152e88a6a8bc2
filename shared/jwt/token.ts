// A compact JWS (RFC 7515, section 3.1) taken apart, before anything of it is believed. RFC 8725 has the attacks that the checks
// are for. What a header says of keys (jwk, jku, x5u, x5c) is never looked at.
import { PosternError } from '../errors.ts'
import { ALGORITHMS, type Algorithm } from './algorithms.ts'
import { type JsonObject, parseStrictObject } from './strict-json.ts'

/** Of a token; heads of requests are longer. */
export const MAX_TOKEN_BYTES = 16 * 1024
const MAX_KID = 256

/** Types that a bearer has: a logout token or a proof of possession is no such, though its issuer has signed it. */
const TYPES = /^(?:application\/)?(?:at\+)?jwt$/i

export type UnverifiedToken = {
  readonly alg: string
  readonly algorithm: Algorithm
  readonly kid: string | undefined
  readonly claims: JsonObject
  readonly signed: Buffer
  readonly signature: Buffer
}

/** @throws PosternError PSTN_JWT_MALFORMED */
export function readToken(text: string): UnverifiedToken {
  if (text.length > MAX_TOKEN_BYTES) throw malformed(`is longer than ${MAX_TOKEN_BYTES} bytes`)
  const parts = text.split('.', 4)
  const [head, payload, signature] = parts
  if (parts.length !== 3 || !head || !payload || !signature)
    throw malformed('has not the three parts of a signed token')
  const { alg, kid, typ, crit } = objectOf(head, 'header')
  const algorithm = typeof alg === 'string' ? ALGORITHMS.get(alg) : undefined
  if (typeof alg !== 'string' || algorithm === undefined)
    throw malformed(`has the algorithm ${JSON.stringify(alg ?? 'missing').slice(0, 40)}`)
  if (crit !== undefined) throw malformed('has critical extensions')
  if (typ !== undefined && !(typeof typ === 'string' && TYPES.test(typ)))
    throw malformed(`has the type ${JSON.stringify(typ).slice(0, 40)}`)
  if (kid !== undefined && (typeof kid !== 'string' || kid.length > MAX_KID))
    throw malformed('has a kid that is no short text')
  return {
    ...{ alg, algorithm, kid },
    claims: objectOf(payload, 'payload'),
    signed: Buffer.from(`${head}.${payload}`, 'latin1'),
    signature: decode(signature, 'signature'),
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function objectOf(part: string, name: string): JsonObject {
  const bytes = decode(part, name)
  try {
    return parseStrictObject(UTF8.decode(bytes))
  } catch (thrown) {
    const why = thrown instanceof Error && !(thrown instanceof SyntaxError) ? thrown.message : 'is no JSON'
    throw malformed(`${name} ${why}`)
  }
}

/** In its one spelling (RFC 4648, section 3.5): no padding, no other alphabet, no bits left over. */
function decode(part: string, name: string): Buffer {
  const bytes = Buffer.from(part, 'base64url')
  if (bytes.toString('base64url') !== part) throw malformed(`${name} is not base64url`)
  return bytes
}

const malformed = (why: string): PosternError => new PosternError('PSTN_JWT_MALFORMED', `the token ${why}`)

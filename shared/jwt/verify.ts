// Whether a token is what its issuer signed, for us and for now. Synchronous: some ten microseconds, once for each token, since
// results are kept (docs/adr/0013).
import { type KeyObject, verify } from 'node:crypto'
import { PosternError } from '../errors.ts'
import { fits } from './algorithms.ts'
import type { PublicJwk } from './jwks.ts'
import type { JsonObject } from './strict-json.ts'
import type { UnverifiedToken } from './token.ts'

export const LEEWAY_S = 60

/** Kept as it is for as long as its issuer has it, whenever its set is fetched again. */
export type TrustedKey = { readonly jwk: PublicJwk; readonly key: KeyObject }

/** When it ends, in milliseconds since the epoch, the leeway included. @throws PosternError PSTN_JWT_EXPIRED, PSTN_JWT_NOT_YET, PSTN_JWT_MALFORMED */
export function checkTime({ exp, nbf, iat }: JsonObject, nowMs: number): number {
  const now = nowMs / 1000
  if (!isDate(exp)) throw new PosternError('PSTN_JWT_MALFORMED', 'the token has no exp, and would never end')
  for (const [name, from] of Object.entries({ nbf, iat })) {
    if (from === undefined) continue
    if (!isDate(from)) throw new PosternError('PSTN_JWT_MALFORMED', `the token has a ${name} that is no date`)
    if (from > now + LEEWAY_S)
      throw new PosternError('PSTN_JWT_NOT_YET', `the token has a ${name} in the future`)
  }
  if (exp + LEEWAY_S <= now) throw new PosternError('PSTN_JWT_EXPIRED', 'the token has expired')
  return (exp + LEEWAY_S) * 1000
}

/** Seconds since the epoch (RFC 7519, section 2). */
const isDate = (value: unknown): value is number =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0 && value < 1e12

/** @throws PosternError PSTN_JWT_AUDIENCE */
export function checkAudience({ aud }: JsonObject, accepted: readonly string[]): void {
  if (accepted.includes('*')) return
  const told: readonly unknown[] = Array.isArray(aud) ? aud : [aud]
  if (!told.some(one => typeof one === 'string' && accepted.includes(one)))
    throw new PosternError('PSTN_JWT_AUDIENCE', 'the token is for another audience')
}

/** Without a kid each of them is tried: few enough that a forged token is cheap. */
const MAX_TRIED = 8

/** The key that signed it. @throws PosternError PSTN_JWT_KEY_UNKNOWN, PSTN_JWT_SIGNATURE */
export function checkSignature(token: UnverifiedToken, keys: readonly TrustedKey[]): TrustedKey {
  const candidates = keys.filter(({ jwk }) => mayHaveSigned(jwk, token))
  if (candidates.length === 0)
    throw new PosternError(
      'PSTN_JWT_KEY_UNKNOWN',
      'no key of the issuer has the kid and algorithm of the token',
    )
  const signer = candidates.slice(0, MAX_TRIED).find(({ key }) => isSignedBy(key, token))
  if (signer === undefined)
    throw new PosternError('PSTN_JWT_SIGNATURE', 'the token is not signed by its issuer')
  return signer
}

/** Only a key of the kind that the algorithm takes: a public key is no secret for HMAC. */
const mayHaveSigned = (jwk: PublicJwk, { alg, algorithm, kid }: UnverifiedToken): boolean =>
  fits(algorithm, jwk) &&
  (jwk.alg === undefined || jwk.alg === alg) &&
  (kid === undefined || jwk.kid === undefined || jwk.kid === kid)

function isSignedBy(
  key: KeyObject,
  { algorithm: { hash, options }, signed, signature }: UnverifiedToken,
): boolean {
  try {
    return verify(hash, signed, { key, ...options }, signature)
  } catch {
    return false
  }
}

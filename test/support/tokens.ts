// An issuer of tokens as a test wants it: right ones, and whatever else can be written into three parts.
import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { keyOf, type PublicJwk, readJwks } from '../../shared/jwt/jwks.ts'
import type { TrustedKey } from '../../shared/jwt/verify.ts'

export const ISSUER = 'https://id.example'
/** 2030-01-01, in seconds. */
export const NOW_S = 1_893_456_000

export type SigningKey = {
  readonly kid: string
  readonly alg: string
  readonly privateKey: KeyObject
  readonly jwk: PublicJwk
}

export function signingKey(kid: string, alg = 'ES256'): SigningKey {
  const { publicKey, privateKey } = generate(alg)
  const { keys } = readJwks(JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid, alg }] }))
  const [jwk] = keys
  if (jwk === undefined) throw new Error('no key')
  return { kid, alg, privateKey, jwk }
}

function generate(alg: string) {
  if (/^[RP]S/.test(alg)) return generateKeyPairSync('rsa', { modulusLength: 2048 })
  if (/^Ed/.test(alg)) return generateKeyPairSync('ed25519')
  return generateKeyPairSync('ec', {
    namedCurve: { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[alg] ?? 'P-256',
  })
}

export const trusted = ({ jwk }: SigningKey): TrustedKey => ({ jwk, key: keyOf(jwk) })

export const b64 = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

export const claims = (more: object = {}) => ({
  iss: ISSUER,
  sub: 'ada',
  aud: 'orders',
  exp: NOW_S + 600,
  ...more,
})

/** Of ES256 and EdDSA. */
export function token(
  { kid, alg, privateKey }: SigningKey,
  payload: unknown = claims(),
  header: object = {},
): string {
  const signed = `${b64({ alg, kid, typ: 'JWT', ...header })}.${b64(payload)}`
  const hash = alg.startsWith('Ed') ? undefined : 'sha256'
  const signature = sign(hash, Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  return `${signed}.${signature.toString('base64url')}`
}

/** Signed with what everybody knows, as if it were a secret. */
export function confused({ kid, jwk }: SigningKey, secret: string = JSON.stringify(jwk)): string {
  const signed = `${b64({ alg: 'HS256', kid })}.${b64(claims())}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

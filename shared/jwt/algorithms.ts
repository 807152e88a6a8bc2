// Which signatures are believed (RFC 7518, section 3.1; RFC 8037): asymmetric ones alone. `none` and HMAC are not here, so that
// no token can choose them, and each algorithm takes keys of its own kind alone.
import { constants } from 'node:crypto'

export type Algorithm = {
  readonly kty: 'RSA' | 'EC' | 'OKP'
  readonly crv?: string
  /** For node:crypto; undefined where the key says it all. */
  readonly hash: string | undefined
  readonly options: {
    readonly padding?: number
    readonly saltLength?: number
    readonly dsaEncoding?: 'ieee-p1363'
  }
}

const rsa = (bits: number): Algorithm => ({
  kty: 'RSA',
  hash: `sha${bits}`,
  options: { padding: constants.RSA_PKCS1_PADDING },
})
/** RFC 7518, section 3.5: the salt is as long as the hash. */
const pss = (bits: number): Algorithm => ({
  kty: 'RSA',
  hash: `sha${bits}`,
  options: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: bits / 8 },
})
const ecdsa = (bits: number, crv: string): Algorithm => ({
  kty: 'EC',
  crv,
  hash: `sha${bits}`,
  options: { dsaEncoding: 'ieee-p1363' },
})
const ED25519: Algorithm = { kty: 'OKP', crv: 'Ed25519', hash: undefined, options: {} }

export const ALGORITHMS: ReadonlyMap<string, Algorithm> = new Map([
  ['RS256', rsa(256)],
  ['RS384', rsa(384)],
  ['RS512', rsa(512)],
  ['PS256', pss(256)],
  ['PS384', pss(384)],
  ['PS512', pss(512)],
  ['ES256', ecdsa(256, 'P-256')],
  ['ES384', ecdsa(384, 'P-384')],
  ['ES512', ecdsa(512, 'P-521')],
  ['EdDSA', ED25519],
  // RFC 9864 names the curve.
  ['Ed25519', ED25519],
])

/** Of a key of that kind. */
export const fits = (
  { kty, crv }: Algorithm,
  key: { readonly kty: string; readonly crv?: string | undefined },
): boolean => kty === key.kty && crv === key.crv

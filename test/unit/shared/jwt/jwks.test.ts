import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { readJwks } from '../../../../shared/jwt/jwks.ts'

const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve })
const rsa = (modulusLength: number) => generateKeyPairSync('rsa', { modulusLength })
const P256 = ec('P-256')
const RSA = rsa(2048)
const ED = generateKeyPairSync('ed25519')

const jwk = ({ publicKey }: { publicKey: typeof P256.publicKey }, rest: object = {}) => ({
  ...publicKey.export({ format: 'jwk' }),
  ...rest,
})
const read = (...keys: readonly unknown[]) => readJwks(JSON.stringify({ keys }))

t.test('public keys of each kind are read in their shortest form', async t => {
  const { keys, unusable } = read(
    jwk(P256, {
      kid: 'a',
      use: 'sig',
      alg: 'ES256',
      x5c: ['…'],
      x5u: 'http://elsewhere',
      key_ops: ['verify'],
    }),
    jwk(RSA, { kid: 'b' }),
    jwk(ED),
  )
  t.strictSame(unusable, [])
  t.match(keys, [
    { kty: 'EC', crv: 'P-256', kid: 'a', alg: 'ES256' },
    { kty: 'RSA', kid: 'b' },
    { kty: 'OKP' },
  ])
  t.strictSame(Object.keys(keys[0] ?? {}).sort(), ['alg', 'crv', 'kid', 'kty', 'x', 'y'])
})

const UNUSABLE: readonly (readonly [what: string, key: unknown, why: RegExp])[] = [
  ['a symmetric key', { kty: 'oct', k: 'c2VjcmV0' }, /private or symmetric/],
  ['a private key', P256.privateKey.export({ format: 'jwk' }), /private or symmetric/],
  ['a public key with a secret beside it', jwk(P256, { k: 'c2VjcmV0' }), /private or symmetric/],
  ['a key to encrypt with', jwk(RSA, { use: 'enc' }), /not for signatures/],
  ['a key to sign with', jwk(RSA, { key_ops: ['sign'] }), /not to verify/],
  ['HMAC over an RSA key', jwk(RSA, { alg: 'HS256' }), /algorithm "HS256"/],
  ['no algorithm', jwk(RSA, { alg: 'none' }), /algorithm "none"/],
  ['an algorithm of another kind of key', jwk(P256, { alg: 'RS256' }), /no algorithm takes/],
  ['an algorithm of another curve', jwk(P256, { alg: 'ES384' }), /no algorithm takes/],
  ['a curve of no algorithm', jwk(ec('secp256k1')), /no algorithm takes/],
  ['an RSA key that is too short', jwk(rsa(1024)), /1024 bits/],
  ['an RSA key with a long exponent', jwk(RSA, { e: 'AQAAAAAB' }), /exponent/],
  ['a point that is not on the curve', jwk(P256, { x: 'AAAA' }), /parse/],
  ['a kid that is no text', jwk(P256, { kid: 1 }), /kid/],
  ['no object', 'key', /no object/],
]
for (const [what, key, why] of UNUSABLE)
  t.test(`${what} is never used`, async t => {
    const { keys, unusable } = read(jwk(P256, { kid: 'good' }), key)
    t.match(unusable, [why])
    t.match(keys, [{ kid: 'good' }], 'control: the others are')
    t.equal(keys.length, 1)
  })

t.test('what is no set is refused', async t => {
  for (const text of [
    '',
    '{}',
    '{"keys":{}}',
    '[]',
    `{"keys":[],"keys":[]}`,
    JSON.stringify({ keys: Array(33).fill({}) }),
  ])
    t.throws(() => readJwks(text), text)
})

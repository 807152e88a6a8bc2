import { createPublicKey } from 'node:crypto'
import { importJWK, SignJWT } from 'jose'
import t from 'tap'
import { ALGORITHMS } from '../../../../shared/jwt/algorithms.ts'
import { readToken } from '../../../../shared/jwt/token.ts'
import { checkAudience, checkSignature, checkTime } from '../../../../shared/jwt/verify.ts'
import {
  b64,
  claims,
  confused,
  NOW_S,
  type SigningKey,
  signingKey,
  token,
  trusted,
} from '../../../support/tokens.ts'

const KEY = signingKey('one')
const OTHER = signingKey('two')
const signer = (text: string, ...keys: SigningKey[]) =>
  checkSignature(readToken(text), keys.map(trusted)).jwk.kid
const withHeader = (header: object, payload: unknown = claims()) => token(KEY, payload, header)

for (const alg of ALGORITHMS.keys())
  t.test(`what jose signs with ${alg} is verified, and nothing that was changed`, async t => {
    const key = signingKey('one', alg)
    const signed = await new SignJWT({ a: 1 }).setProtectedHeader({ alg, kid: 'one' }).sign(key.privateKey)
    t.equal(signer(signed, key), 'one')
    t.match(readToken(signed), { alg, kid: 'one', claims: { a: 1 } })
    const [head, , signature] = signed.split('.')
    const other = signingKey('one', alg)
    t.throws(() => signer(`${head}.${b64({ a: 2 })}.${signature}`, key), { code: 'PSTN_JWT_SIGNATURE' })
    t.throws(() => signer(signed, other), { code: 'PSTN_JWT_SIGNATURE' })
    t.ok(await importJWK({ ...key.jwk }, alg), 'control: jose reads the key that we keep')
  })

t.test('the key that the kid names is taken, of several', async t => {
  t.equal(signer(token(OTHER), KEY, OTHER), 'two')
  t.throws(
    () => signer(withHeader({ kid: 'two' }), KEY, OTHER),
    { code: 'PSTN_JWT_SIGNATURE' },
    'and no other',
  )
  t.throws(() => signer(withHeader({ kid: 'three' }), KEY, OTHER), { code: 'PSTN_JWT_KEY_UNKNOWN' })
  t.equal(signer(withHeader({ kid: undefined }), OTHER, KEY), 'one', 'without a kid each is tried')
})

t.test('a public key is no secret for HMAC, and none is no algorithm', async t => {
  const pem = createPublicKey(KEY.privateKey).export({ type: 'spki', format: 'pem' }).toString()
  for (const text of [confused(KEY), confused(KEY, pem), confused(KEY, KEY.jwk.x)])
    t.throws(() => readToken(text), { code: 'PSTN_JWT_MALFORMED', message: /HS256/ })
  for (const alg of [
    'none',
    'None',
    'nOnE',
    '',
    'HS512',
    'RSA-OAEP',
    'es256',
    'dir',
    1,
    null,
    ['ES256'],
    'constructor',
  ])
    t.throws(() => readToken(withHeader({ alg })), { code: 'PSTN_JWT_MALFORMED' }, String(alg))
  const [head, payload] = token(KEY).split('.')
  for (const text of [`${head}.${payload}.`, `${head}.${payload}`, `${b64({ alg: 'none' })}.${payload}.`])
    t.throws(() => readToken(text), { code: 'PSTN_JWT_MALFORMED' })
})

t.test('an algorithm takes keys of its own kind alone', async t => {
  const rsa = signingKey('one', 'RS256')
  const { alg: _, ...open } = rsa.jwk
  t.throws(() => checkSignature(readToken(token(KEY)), [trusted(rsa)]), { code: 'PSTN_JWT_KEY_UNKNOWN' })
  t.throws(() => checkSignature(readToken(withHeader({ alg: 'PS256' })), [trusted(rsa)]), {
    code: 'PSTN_JWT_KEY_UNKNOWN',
  })
  const pss = await new SignJWT({}).setProtectedHeader({ alg: 'PS256', kid: 'one' }).sign(rsa.privateKey)
  t.ok(checkSignature(readToken(pss), [{ ...trusted(rsa), jwk: open }]), 'control: one that is for any')
})

t.test('keys that a token brings along are never looked at', async t => {
  const jwk = OTHER.jwk
  for (const header of [
    { jwk },
    { jwk, kid: undefined },
    { jku: 'https://evil.example' },
    { x5c: ['MII'] },
    { x5u: 'file:///' },
  ])
    t.throws(() => signer(token(OTHER, claims(), { kid: 'one', ...header }), KEY), {
      code: 'PSTN_JWT_SIGNATURE',
    })
  for (const kid of ['../../../dev/null', "' or 1=1", '/proc/self/environ', '__proto__', '\0'])
    t.throws(() => signer(withHeader({ kid }), KEY), { code: 'PSTN_JWT_KEY_UNKNOWN' }, kid)
})

const [HEAD, PAYLOAD, SIGNATURE] = token(KEY).split('.')
const WRONG: readonly (readonly [what: string, text: string])[] = [
  ['nothing', ''],
  ['five parts, as of an encrypted one', 'a.b.c.d.e'],
  ['a fourth part', `${token(KEY)}.a`],
  ['no header', `.${PAYLOAD}.${SIGNATURE}`],
  ['no payload', `${HEAD}..${SIGNATURE}`],
  ['padding', `${HEAD}=.${PAYLOAD}.${SIGNATURE}`],
  ['another alphabet', `${HEAD}.${PAYLOAD}.+/+/`],
  ['a blank', `${HEAD}. ${PAYLOAD}.${SIGNATURE}`],
  ['bits left over', `${HEAD}.${PAYLOAD}.${SIGNATURE?.slice(0, -1)}_`],
  ['a header that is a list', `${b64([])}.${PAYLOAD}.${SIGNATURE}`],
  ['alg twice', `${b64('{"alg":"none","alg":"ES256"}')}.${PAYLOAD}.${SIGNATURE}`],
  ['a payload that is no JSON', withHeader({}, 'hello')],
  ['a payload that is a token', withHeader({ cty: 'JWT' }, token(KEY))],
  ['sub twice', withHeader({}, '{"sub":"ada","sub":"root"}')],
  ['sub twice, once in other letters', withHeader({}, '{"sub":"ada","s\\u0075b":"root"}')],
  [
    'UTF-8 that is none',
    `${HEAD}.${Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString('base64url')}.${SIGNATURE}`,
  ],
  ['a byte order mark', withHeader({}, `\ufeff${JSON.stringify(claims())}`)],
  ['depth', withHeader({}, `{"a":${'['.repeat(3000)}${']'.repeat(3000)}}`)],
  ['length', withHeader({}, claims({ a: 'x'.repeat(16 * 1024) }))],
  ['critical extensions', withHeader({ crit: ['exp'], exp: 1 })],
  ['an empty list of them', withHeader({ crit: [] })],
  ['an unencoded payload', withHeader({ b64: false, crit: ['b64'] })],
  ['the type of a logout token', withHeader({ typ: 'logout+jwt' })],
  ['a proof of possession', withHeader({ typ: 'dpop+jwt' })],
  ['a kid that is no text', withHeader({ kid: { a: 1 } })],
  ['a long kid', withHeader({ kid: 'x'.repeat(300) })],
]
for (const [what, text] of WRONG)
  t.test(`a token with ${what} is refused before a key is looked at`, async t => {
    t.throws(() => readToken(text), { code: 'PSTN_JWT_MALFORMED' })
  })
for (const typ of ['JWT', 'jwt', 'at+jwt', 'application/at+jwt', undefined])
  t.test(`control: the type ${typ} is one`, async t => t.equal(signer(withHeader({ typ }), KEY), 'one'))

t.test('times have a minute to spare, and there is always an end', async t => {
  const at = (times: object) => checkTime({ exp: NOW_S + 10, ...times }, NOW_S * 1000)
  t.equal(at({}), (NOW_S + 70) * 1000)
  t.equal(at({ exp: NOW_S - 59, nbf: NOW_S + 60, iat: NOW_S + 60 }), (NOW_S + 1) * 1000)
  for (const exp of [NOW_S - 60, 0]) t.throws(() => at({ exp }), { code: 'PSTN_JWT_EXPIRED' })
  for (const times of [{ nbf: NOW_S + 61 }, { iat: NOW_S + 61 }])
    t.throws(() => at(times), { code: 'PSTN_JWT_NOT_YET' })
  for (const exp of [undefined, null, '2030', `${NOW_S}`, -1, 1e300, true, [NOW_S + 1]])
    t.throws(() => at({ exp }), { code: 'PSTN_JWT_MALFORMED' }, String(exp))
  t.throws(() => at({ nbf: 'now' }), { code: 'PSTN_JWT_MALFORMED' })
})

t.test('the audience is exact', async t => {
  for (const aud of ['orders', ['web', 'orders']]) t.doesNotThrow(() => checkAudience({ aud }, ['orders']))
  for (const aud of [
    'order',
    'orders ',
    'ORDERS',
    'orders,web',
    ['web'],
    [],
    [['orders']],
    { orders: 1 },
    undefined,
    '*',
  ])
    t.throws(() => checkAudience({ aud }, ['orders']), { code: 'PSTN_JWT_AUDIENCE' }, String(aud))
  t.doesNotThrow(() => checkAudience({}, ['*']))
})

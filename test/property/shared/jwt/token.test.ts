// Nothing but the token that was signed is verified, whatever is written in its place; and nothing that is written is more than
// a refusal.
import fc from 'fast-check'
import t from 'tap'
import { PosternError } from '../../../../shared/errors.ts'
import { parseStrictObject } from '../../../../shared/jwt/strict-json.ts'
import { readToken } from '../../../../shared/jwt/token.ts'
import { checkSignature } from '../../../../shared/jwt/verify.ts'
import { b64, signingKey, token, trusted } from '../../../support/tokens.ts'

const KEY = signingKey('one')
const TOKEN = token(KEY)
const KEYS = [trusted(KEY)]
const RUNS = Number(process.env.POSTERN_PROPERTY_RUNS ?? 20_000)

const isVerified = (text: string): boolean => {
  try {
    checkSignature(readToken(text), KEYS)
    return true
  } catch (thrown) {
    if (thrown instanceof PosternError && thrown.code.startsWith('PSTN_JWT_')) return false
    throw thrown
  }
}

const character = fc.oneof(
  fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ '),
  fc.string({ minLength: 1, maxLength: 3, unit: 'binary' }),
)
const edit = fc.tuple(fc.nat(TOKEN.length), fc.nat(3), character)

t.test('one place that is another makes it another token', async t => {
  t.ok(isVerified(TOKEN), 'control')
  fc.assert(
    fc.property(edit, ([at, removed, put]) => {
      const text = TOKEN.slice(0, at) + put + TOKEN.slice(at + removed)
      return text === TOKEN || !isVerified(text)
    }),
    { numRuns: RUNS / 10 },
  )
})

t.test('whatever three parts hold is refused with a code', async () => {
  const part = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json().map(b64),
    fc.uint8Array().map(bytes => Buffer.from(bytes).toString('base64url')),
    fc
      .record({
        alg: fc.constantFrom('none', 'HS256', 'ES256', 'RS256', 'EdDSA'),
        kid: fc.constantFrom('one', 'two', 1),
      })
      .map(b64),
    fc.constantFrom(...TOKEN.split('.')),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 5 }), parts => {
      const text = parts.join('.')
      return text === TOKEN || !isVerified(text)
    }),
    { numRuns: RUNS },
  )
})

t.test('strict JSON is JSON.parse for every object whose names are its own', async () => {
  const value = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ maxDepth: 5 }))
  fc.assert(
    fc.property(value, fc.constantFrom(undefined, 1), (object, indent) => {
      const text = JSON.stringify(object, undefined, indent)
      return JSON.stringify(parseStrictObject(text)) === JSON.stringify(JSON.parse(text))
    }),
    { numRuns: RUNS / 10 },
  )
})

// The bundle format against everything: what is written reads back as it was, and whatever is read ends in a bundle or in
// a refusal that says where.
import { X509Certificate } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { PosternError } from '../../../shared/errors.ts'
import { readSpiffeBundle, writeSpiffeBundle } from '../../../shared/spiffe-bundle.ts'
import { testAuthority } from '../../support/certificates.ts'

const TRUST_DOMAIN = 'example.org'
const ROOTS = await Promise.all(
  Array.from({ length: 5 }, async () => (await testAuthority(TRUST_DOMAIN)).root),
)

const bundles = fc
  .record(
    {
      roots: fc.subarray(ROOTS).chain(roots => fc.shuffledSubarray(roots, { minLength: roots.length })),
      sequence: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      refreshHintSeconds: fc.maxSafeNat(),
    },
    { requiredKeys: ['roots'] },
  )
  .map(bundle => ({ trustDomain: TRUST_DOMAIN, ...bundle }))

t.test('what is written reads back as it was, and is written the same again', async t => {
  fc.assert(
    fc.property(bundles, bundle => {
      const text = writeSpiffeBundle(bundle)
      const { bundle: found, ignored } = readSpiffeBundle(text, TRUST_DOMAIN)
      t.same(found, bundle)
      return ignored.length === 0 && writeSpiffeBundle(found) === text
    }),
    { numRuns: 200 },
  )
})

/** An outcome that may be: roots that stand in the document, or a refusal with a code. */
function isHandled(text: string): boolean {
  try {
    const { roots } = readSpiffeBundle(text, TRUST_DOMAIN).bundle
    return roots.every(root => text.includes(new X509Certificate(root).raw.toString('base64')))
  } catch (thrown) {
    return (
      thrown instanceof PosternError && thrown.code === 'PSTN_TRUST_INVALID' && thrown.message.length < 500
    )
  }
}

t.test('a written bundle with any bytes changed is read whole or refused', async t => {
  const edits = fc.array(fc.tuple(fc.nat(), fc.string({ unit: 'binary', maxLength: 3 })), {
    minLength: 1,
    maxLength: 4,
  })
  const check = () =>
    fc.assert(
      fc.property(bundles, edits, (bundle, changes) => {
        let text = writeSpiffeBundle(bundle)
        for (const [at, insert] of changes) {
          const place = at % text.length
          text = text.slice(0, place) + insert + text.slice(place + 1)
        }
        return isHandled(text)
      }),
      { numRuns: 1_000 },
    )
  t.doesNotThrow(check)
})

t.test('any JSON with the names of a bundle is read or refused', async t => {
  const value = fc.jsonValue({ maxDepth: 2 })
  const some = <T>(known: readonly T[]) => fc.oneof(fc.constantFrom<unknown>(...known), value)
  const certificate = fc.constantFrom(...ROOTS.map(root => new X509Certificate(root).raw.toString('base64')))
  const key = fc.record(
    {
      kty: some(['EC', 'RSA', 'OKP', 'oct']),
      use: some(['x509-svid', 'jwt-svid']),
      x5c: fc.oneof(fc.array(fc.oneof(certificate, fc.base64String(), value), { maxLength: 3 }), value),
      crv: some(['P-256']),
      x: value,
      kid: value,
    },
    { requiredKeys: [] },
  )
  const document = fc.record(
    {
      keys: fc.oneof(fc.array(fc.oneof(key, value), { maxLength: 5 }), value),
      spiffe_sequence: value,
      spiffe_refresh_hint: value,
    },
    { requiredKeys: [] },
  )
  const check = () =>
    fc.assert(
      fc.property(document, content => isHandled(JSON.stringify(content))),
      { numRuns: 2_000 },
    )
  t.doesNotThrow(check)
})

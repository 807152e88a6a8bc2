import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { bindRequestAuthentication } from '../../../../shared/policy/bind.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'
import { decodeRequestAuthentication } from '../../../../shared/policy/request-authentication.ts'
import { createAuthority } from '../../../support/authority.ts'

const ORIGIN = { namespace: 'shop', systemNamespace: 'postern-system' }
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const jwks = (...keys: object[]) => JSON.stringify(JSON.stringify({ keys }))
const JWKS = jwks({ ...publicKey.export({ format: 'jwk' }), kid: 'one' })

const parse = (spec: string, origin = ORIGIN) =>
  parsePolicyConfigMap(
    {
      data: {
        p: `apiVersion: policy.postern.dev/v1\nkind: RequestAuthentication\nmetadata: {name: users}\nspec: ${spec}`,
      },
    },
    origin,
  )
const rule = (fields: string) =>
  parse(`{jwtRules: [{issuer: "https://id.example", audiences: [orders], ${fields}}]}`)

t.test('a full document is normalized', async t => {
  const parsed = parse(`
  selector: {matchLabels: {app: orders}}
  jwtRules:
  - issuer: https://id.example
    audiences: [orders, "https://orders.example"]
    jwksUri: https://id.example/keys?v=1
    fromHeaders: [{name: X-Token}, {name: Authorization, prefix: "Token "}]
    outputClaimToHeaders: [{header: X-User, claim: sub}, {header: x-role, claim: "[realm][role]"}]
    forwardOriginalToken: true
  - issuer: other
    audiences: ["*"]
    jwks: ${JWKS}
`)
  t.match(parsed, {
    kind: 'valid',
    documents: [
      {
        kind: 'RequestAuthentication',
        namespace: 'shop',
        selector: { app: 'orders' },
        authentication: {
          name: 'shop/users',
          features: [],
          rules: [
            {
              issuer: 'https://id.example',
              audiences: ['orders', 'https://orders.example'],
              keys: { kind: 'uri', uri: 'https://id.example/keys?v=1' },
              from: [
                { header: 'x-token', prefix: '' },
                { header: 'authorization', prefix: 'Token ' },
              ],
              toHeaders: [
                { header: 'x-user', claim: ['sub'] },
                { header: 'x-role', claim: ['realm', 'role'] },
              ],
              forward: 'token',
            },
            {
              issuer: 'other',
              audiences: ['*'],
              keys: { kind: 'inline', keys: [{ kty: 'EC', kid: 'one' }] },
              from: [{ header: 'authorization', prefix: 'Bearer ' }],
              toHeaders: [],
              forward: 'nothing',
            },
          ],
        },
      },
    ],
  })
  const bound = bindRequestAuthentication(
    parsed.kind === 'valid' ? parsed.documents : [],
    { namespace: 'shop', labels: { app: 'orders' } },
    ORIGIN,
  )
  t.equal(bound.length, 1)
  t.strictSame(decodeRequestAuthentication(JSON.parse(JSON.stringify(bound)), 'x'), bound, 'as it is sent')
})

t.test('it binds the pods that a policy of its namespace would, and mesh-wide ones all', async t => {
  const bound = (namespace: string, pod: string, labels = {}) => {
    const parsed = parse(`{jwtRules: [{issuer: i, audiences: [a], jwks: ${JWKS}}]}`, { ...ORIGIN, namespace })
    return bindRequestAuthentication(
      parsed.kind === 'valid' ? parsed.documents : [],
      { namespace: pod, labels },
      ORIGIN,
    ).length
  }
  t.equal(bound('shop', 'shop'), 1)
  t.equal(bound('shop', 'bank'), 0)
  t.equal(bound('postern-system', 'bank'), 1)
})

t.test('roots of its own for where the keys are', async t => {
  const { cert } = await createAuthority('id.example')
  const text = JSON.stringify(cert)
  t.match(rule(`jwksUri: "https://id.shop.svc/keys", caBundle: ${text}`), {
    documents: [{ authentication: { rules: [{ keys: { kind: 'uri', roots: [/BEGIN CERTIFICATE/] } }] } }],
  })
  t.match(rule(`jwksUri: "https://id.shop.svc/keys", caBundle: nonsense`), { kind: 'invalid' })
})

const uri = (text: string) => rule(`jwksUri: ${JSON.stringify(text)}`)
const WRONG: readonly (readonly [
  what: string,
  parsed: ReturnType<typeof parse>,
  path: string,
  reason: RegExp,
])[] = [
  ['no rules', parse('{}'), 'spec.jwtRules', /not a list/],
  [
    'no issuer',
    parse(`{jwtRules: [{audiences: [a], jwks: ${JWKS}}]}`),
    'spec.jwtRules[0].issuer',
    /is empty/,
  ],
  [
    'no audiences',
    parse(`{jwtRules: [{issuer: i, jwks: ${JWKS}}]}`),
    'spec.jwtRules[0].audiences',
    /given to others/,
  ],
  [
    'a pattern as an audience',
    parse(`{jwtRules: [{issuer: i, audiences: ["a*"], jwks: ${JWKS}}]}`),
    'spec.jwtRules[0].audiences[0]',
    /not valid/,
  ],
  ['no keys', rule(''), 'spec.jwtRules[0]', /which keys/],
  ['keys in two places', rule(`jwks: ${JWKS}, jwksUri: "https://a"`), 'spec.jwtRules[0]', /both/],
  ['keys over plain http', uri('http://id.example/keys'), 'spec.jwtRules[0].jwksUri', /not valid/],
  ['keys in a file', uri('file:///etc/passwd'), 'spec.jwtRules[0].jwksUri', /not valid/],
  ['keys with a password', uri('https://a:b@id.example/'), 'spec.jwtRules[0].jwksUri', /not valid/],
  ['keys with a fragment', uri('https://id.example/#a'), 'spec.jwtRules[0].jwksUri', /not valid/],
  ['keys of the pod itself', uri('https://127.0.0.1/keys'), 'spec.jwtRules[0].jwksUri', /not valid/],
  ['keys of localhost', uri('https://localhost:15020/keys'), 'spec.jwtRules[0].jwksUri', /not valid/],
  ['keys of the node’s metadata', uri('https://169.254.169.254/'), 'spec.jwtRules[0].jwksUri', /not valid/],
  [
    'keys of a metadata address in other digits',
    uri('https://0xa9fea9fe/'),
    'spec.jwtRules[0].jwksUri',
    /not valid/,
  ],
  ['loopback in IPv6', uri('https://[::1]/'), 'spec.jwtRules[0].jwksUri', /not valid/],
  [
    'a private key',
    rule(`jwks: ${jwks(privateKey.export({ format: 'jwk' }))}`),
    'spec.jwtRules[0].jwks',
    /private/,
  ],
  ['a symmetric key', rule(`jwks: ${jwks({ kty: 'oct', k: 'eA' })}`), 'spec.jwtRules[0].jwks', /symmetric/],
  ['keys that are no JSON', rule('jwks: "{"'), 'spec.jwtRules[0].jwks', /JSON/],
  ['an empty set', rule(`jwks: ${jwks()}`), 'spec.jwtRules[0].jwks', /no key/],
  ['a bundle without a URL', rule(`jwks: ${JWKS}, caBundle: x`), 'spec.jwtRules[0].caBundle', /no jwksUri/],
  ['an unknown field', rule(`jwk: ${JWKS}`), 'spec.jwtRules[0].jwk', /did you mean jwks/],
  [
    'tokens in the query',
    rule(`jwks: ${JWKS}, fromParams: [t]`),
    'spec.jwtRules[0].fromParams',
    /not supported yet/,
  ],
  [
    'a header that is none',
    rule(`jwks: ${JWKS}, fromHeaders: [{name: "a b"}]`),
    'spec.jwtRules[0].fromHeaders[0].name',
    /not valid/,
  ],
  [
    'a claim as the host',
    rule(`jwks: ${JWKS}, outputClaimToHeaders: [{header: Host, claim: a}]`),
    'spec.jwtRules[0].outputClaimToHeaders[0].header',
    /meaning of its own/,
  ],
  [
    'a claim as who calls',
    rule(`jwks: ${JWKS}, outputClaimToHeaders: [{header: X-Forwarded-Client-Cert, claim: a}]`),
    'spec.jwtRules[0].outputClaimToHeaders[0].header',
    /meaning of its own/,
  ],
  [
    'a claim where the token is',
    rule(`jwks: ${JWKS}, fromHeaders: [{name: x}], outputClaimToHeaders: [{header: X, claim: a}]`),
    'spec.jwtRules[0]',
    /token and a claim/,
  ],
  [
    'half a claim',
    rule(`jwks: ${JWKS}, outputClaimToHeaders: [{header: x-a, claim: "a[b"}]`),
    'spec.jwtRules[0].outputClaimToHeaders[0].claim',
    /not valid/,
  ],
  [
    'forwarding that is no boolean',
    rule(`jwks: ${JWKS}, forwardOriginalToken: "no"`),
    'spec.jwtRules[0].forwardOriginalToken',
    /neither true nor false/,
  ],
]
for (const [what, parsed, path, reason] of WRONG)
  t.test(`${what} is refused where it is written`, async t => {
    t.match(parsed, { kind: 'invalid', problems: [{ path, reason }] })
  })

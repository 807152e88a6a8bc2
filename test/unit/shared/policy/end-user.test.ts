// What rules say of end users, and of resources that are theirs.
import t from 'tap'
import { compile } from '../../../../shared/policy/compile.ts'
import type { EndUser } from '../../../../shared/policy/end-user.ts'
import { evaluate, evaluateAnyRequest } from '../../../../shared/policy/evaluate.ts'
import type { AuthorizationPolicy, Condition, HttpRequest, Rule } from '../../../../shared/policy/model.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'

const ORIGIN = { namespace: 'shop', systemNamespace: 'postern-system' }
const ADA: EndUser = {
  principal: 'https://id.example/ada',
  claims: {
    aud: ['orders', 'web'],
    azp: 'browser',
    account: '42',
    number: 42,
    groups: ['readers', 'writers'],
    admin: true,
    scope: 'read write',
    realm: { roles: ['teller'], scope: 'read write' },
    odd: [{}],
    nobody: null,
  },
}

const compiled = (action: 'ALLOW' | 'DENY', rule: Rule) => {
  const policy: AuthorizationPolicy = {
    kind: 'AuthorizationPolicy',
    name: 'shop/x',
    action,
    rules: [rule],
    features: [],
  }
  const set = {
    mode: { inbound: 'permissive', ports: {} },
    policies: [policy],
    defaultAction: 'allow',
  } as const
  return compile(set, { trustDomain: 'cluster.local' })
}
const asked = (user: EndUser | undefined, path: string) => {
  const http: HttpRequest = { method: 'GET', host: 'orders', path, ...(user && { user }) }
  return { caller: { address: '10.0.0.7' }, port: 8080, http }
}
/** Whether a rule of that action matches. */
const matches = (action: 'ALLOW' | 'DENY', rule: Rule, user: EndUser | undefined, path = '/') =>
  evaluate(compiled(action, rule), asked(user, path)).allow === (action === 'ALLOW')
const both = (rule: Rule, user: EndUser | undefined, path = '/') => [
  matches('ALLOW', rule, user, path),
  matches('DENY', rule, user, path),
]
const MATCHES = [true, true]
const DOES_NOT = [false, false]
const NOT_KNOWN = [false, true]

const when = (condition: Condition): Rule => ({ when: [condition] })
const claim = (name: string, ...values: string[]) => when({ key: `request.auth.claims[${name}]`, values })

const CASES: readonly (readonly [what: string, rule: Rule, expected: readonly boolean[]])[] = [
  ['a principal', { from: [{ requestPrincipals: ['https://id.example/ada'] }] }, MATCHES],
  ['any principal', { from: [{ requestPrincipals: ['*'] }] }, MATCHES],
  ['any of an issuer', { from: [{ requestPrincipals: ['https://id.example/*'] }] }, MATCHES],
  ['another', { from: [{ requestPrincipals: ['https://id.example/bob'] }] }, DOES_NOT],
  ['not this one', { from: [{ notRequestPrincipals: ['https://id.example/ada'] }] }, DOES_NOT],
  ['not another', { from: [{ notRequestPrincipals: ['https://id.example/bob'] }] }, MATCHES],
  ['the principal as a condition', when({ key: 'request.auth.principal', values: ['*/ada'] }), MATCHES],
  ['one of the audiences', when({ key: 'request.auth.audiences', values: ['web'] }), MATCHES],
  ['no audience of it', when({ key: 'request.auth.audiences', notValues: ['web'] }), DOES_NOT],
  ['the presenter', when({ key: 'request.auth.presenter', values: ['browser'] }), MATCHES],
  ['a claim', claim('account', '42'), MATCHES],
  ['a claim that is a number', claim('number', '42'), MATCHES],
  ['a claim that is true', claim('admin', 'true'), MATCHES],
  ['one value of a list', claim('groups', 'writers'), MATCHES],
  ['none of a list', when({ key: 'request.auth.claims[groups]', notValues: ['write*'] }), DOES_NOT],
  ['not in a list', when({ key: 'request.auth.claims[groups]', notValues: ['owners'] }), MATCHES],
  ['a claim inside of another', claim('realm][roles', 'teller'), MATCHES],
  ['one of several scopes', claim('scope', 'write'), MATCHES],
  ['a text with blanks that is no scope', claim('realm][scope', 'write'), DOES_NOT],
  ['a claim that is not there', claim('nothing', '*'), DOES_NOT],
  ['not a claim that is not there', when({ key: 'request.auth.claims[nothing]', notValues: ['a'] }), MATCHES],
  ['a name that every object has', claim('constructor', '*'), DOES_NOT],
  ['a length of a list', claim('groups][length', '2'), DOES_NOT],
  ['a claim that is no text', claim('odd', '*'), NOT_KNOWN],
  ['not a claim that is no text', when({ key: 'request.auth.claims[odd]', notValues: ['a'] }), NOT_KNOWN],
  ['a claim that is null', claim('nobody', '*'), NOT_KNOWN],
]
for (const [what, rule, expected] of CASES) {
  t.test(`${what}, of a user who is known`, async t => t.strictSame(both(rule, ADA), expected))
  t.test(`${what}: without a token it never matches ALLOW and always matches DENY`, async t => {
    t.strictSame(both(rule, undefined), NOT_KNOWN)
  })
}

t.test('a token without a subject is no principal', async t => {
  const nameless: EndUser = { principal: undefined, claims: { aud: 'orders' } }
  t.strictSame(both({ from: [{ requestPrincipals: ['*'] }] }, nameless), NOT_KNOWN)
  t.strictSame(both(when({ key: 'request.auth.audiences', values: ['orders'] }), nameless), MATCHES)
})

const own = (...conditions: Condition[]): Rule => ({
  to: [{ paths: ['/accounts/{id}', '/accounts/{id}/{**}'] }],
  when: conditions,
})
const ACCOUNT = 'request.auth.claims[account]'
const OWN = own({ key: 'request.path[id]', equals: ACCOUNT })
const OTHERS = own({ key: 'request.path[id]', notEquals: ACCOUNT })

t.test('the segment that a template names is compared with a claim', async t => {
  t.strictSame(both(OWN, ADA, '/accounts/42'), MATCHES)
  t.strictSame(both(OWN, ADA, '/accounts/42/orders/7'), MATCHES)
  for (const path of [
    '/accounts/43',
    '/accounts/421',
    '/accounts/43/42',
    '/accounts/42;x',
    '/accounts/%2A',
    '/accounts',
    '/42',
  ])
    t.strictSame(both(OWN, ADA, path), DOES_NOT, path)
  t.strictSame(both(OTHERS, ADA, '/accounts/43'), MATCHES)
  t.strictSame(both(OTHERS, ADA, '/accounts/42'), DOES_NOT)
  t.strictSame(both(OTHERS, ADA, '/elsewhere'), DOES_NOT)
})

t.test(
  'any value of a list is the user’s, a number is as it is written, and encodings are decoded once',
  async t => {
    const user = (account: unknown): EndUser => ({ principal: 'i/ada', claims: { account } })
    t.strictSame(both(OWN, user(['41', '42']), '/accounts/42'), MATCHES)
    t.strictSame(both(OWN, user(42), '/accounts/42'), MATCHES)
    t.strictSame(both(OWN, user(4.2), '/accounts/4.2'), NOT_KNOWN)
    t.strictSame(both(OWN, user('a b'), '/accounts/a%20b'), MATCHES)
    t.strictSame(both(OWN, user('é'), '/accounts/%C3%A9'), MATCHES)
    t.strictSame(both(OWN, user('a%20b'), '/accounts/a%20b'), DOES_NOT)
    t.strictSame(both(OWN, user('x'), '/accounts/%FF'), NOT_KNOWN, 'no text in any encoding')
    t.strictSame(both(OWN, user('*'), '/accounts/42'), DOES_NOT, 'a claim is no pattern')
    t.strictSame(both(OWN, user([]), '/accounts/42'), DOES_NOT)
    t.strictSame(both(OWN, user({}), '/accounts/42'), NOT_KNOWN)
  },
)

t.test('without a token or without the claim nothing is the user’s', async t => {
  t.strictSame(both(OWN, undefined, '/accounts/42'), NOT_KNOWN)
  t.strictSame(both(OTHERS, undefined, '/accounts/42'), NOT_KNOWN)
  const none: EndUser = { principal: 'i/ada', claims: {} }
  t.strictSame(both(OWN, none, '/accounts/42'), DOES_NOT)
  t.strictSame(both(OTHERS, none, '/accounts/42'), MATCHES)
})

t.test('several conditions hold of one pattern together', async t => {
  const rule: Rule = {
    to: [{ paths: ['/{org}/{id}', '/{id}/{org}'] }],
    when: [
      { key: 'request.path[org]', equals: 'request.auth.claims[org]' },
      { key: 'request.path[id]', equals: 'request.auth.claims[id]' },
    ],
  }
  const user: EndUser = { principal: 'i/ada', claims: { org: 'a', id: 'b' } }
  t.strictSame(both(rule, user, '/a/b'), MATCHES)
  t.strictSame(both(rule, user, '/b/a'), MATCHES, 'the other pattern')
  t.strictSame(both(rule, user, '/a/a'), DOES_NOT, 'each by another pattern')
})

t.test('a pattern that does not say which segment is meant helps nobody', async t => {
  const rule: Rule = { ...OWN, to: [{ paths: ['/accounts/{*}', '/accounts/*'] }] }
  t.strictSame(both(rule, ADA, '/accounts/42'), NOT_KNOWN)
  const anywhere = evaluate(compiled('DENY', { when: OWN.when ?? [] }), asked(ADA, '/'))
  t.match(anywhere, { allow: false, code: 'PSTN_POLICY_UNSUPPORTED' })
})

t.test('a connection is let in if some request of it could pass', async t => {
  const connection = { caller: { address: '10.0.0.7' }, port: 8080 }
  for (const rule of [OWN, { from: [{ requestPrincipals: ['*'] }] }, claim('a', 'b')]) {
    t.equal(evaluateAnyRequest(compiled('ALLOW', rule), connection).allow, true)
    t.equal(evaluateAnyRequest(compiled('DENY', rule), connection).allow, true)
    t.equal(evaluate(compiled('ALLOW', rule), connection).allow, false, 'opaque bytes')
    t.equal(evaluate(compiled('DENY', rule), connection).allow, false, 'opaque bytes')
  }
})

const parsed = (rules: string) =>
  parsePolicyConfigMap(
    {
      data: {
        p: `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {rules: [${rules}]}`,
      },
    },
    ORIGIN,
  )
const OWNED = `when: [{key: "request.path[id]", equals: "request.auth.claims[account]"}]`

t.test('what a sidecar must know is said, so that an older one refuses', async t => {
  const features = (rules: string) => {
    const result = parsed(rules)
    const [document] = result.kind === 'valid' ? result.documents : []
    return document?.kind === 'AuthorizationPolicy' ? document.policy.features : result
  }
  t.strictSame(features('{from: [{source: {requestPrincipals: [i/s]}}]}'), ['l4', 'requestPrincipals'])
  t.strictSame(features('{when: [{key: request.auth.audiences, values: [a]}]}'), [
    'l4',
    'when',
    'requestPrincipals',
  ])
  t.strictSame(features(`{to: [{operation: {paths: ["/a/{id}"]}}], ${OWNED}}`), [
    ...['l4', 'http', 'pathTemplates', 'when', 'requestPrincipals', 'pathNames'],
  ])
  t.strictSame(features('{to: [{operation: {paths: ["/a/{id}"]}}]}'), [
    'l4',
    'http',
    'pathTemplates',
    'pathNames',
  ])
})

const WRONG: readonly (readonly [what: string, rules: string, path: string, reason: RegExp])[] = [
  [
    'a principal without its issuer',
    '{from: [{source: {requestPrincipals: [ada]}}]}',
    'spec.rules[0].from[0].source.requestPrincipals[0]',
    /not valid/,
  ],
  [
    'a star inside',
    '{from: [{source: {notRequestPrincipals: ["i/*/a"]}}]}',
    'spec.rules[0].from[0].source.notRequestPrincipals[0]',
    /not valid/,
  ],
  [
    'two stars',
    '{when: [{key: "request.auth.claims[a]", values: ["*a*"]}]}',
    'spec.rules[0].when[0].values[0]',
    /not valid/,
  ],
  [
    'a claim without a name',
    '{when: [{key: "request.auth.claims[]", values: [a]}]}',
    'spec.rules[0].when[0].key',
    /no condition/,
  ],
  [
    'a segment with values',
    `{to: [{operation: {paths: ["/{id}"]}}], when: [{key: "request.path[id]", values: [a]}]}`,
    'spec.rules[0].when[0].values',
    /not for segments/,
  ],
  [
    'a comparison with a header',
    `{to: [{operation: {paths: ["/{id}"]}}], when: [{key: "request.path[id]", equals: "request.headers[x]"}]}`,
    'spec.rules[0].when[0].equals',
    /not valid/,
  ],
  [
    'a comparison of a claim',
    '{when: [{key: "request.auth.claims[a]", values: [b], equals: request.auth.principal}]}',
    'spec.rules[0].when[0].equals',
    /alone/,
  ],
  ['no paths', `{${OWNED}}`, 'spec.rules[0].when[0].key', /no paths/],
  [
    'an operation without paths',
    `{to: [{operation: {paths: ["/{id}"]}}, {operation: {methods: [GET]}}], ${OWNED}}`,
    'spec.rules[0].to[1].operation',
    /names no segment id/,
  ],
  [
    'a path without the name',
    `{to: [{operation: {paths: ["/{id}", "/a/{*}", "/b"]}}], ${OWNED}}`,
    'spec.rules[0].to[0].operation.paths[1]',
    /names no segment id/,
  ],
  [
    'a name in what must not match',
    `{to: [{operation: {notPaths: ["/{id}"]}}]}`,
    'spec.rules[0].to[0].operation.notPaths[0]',
    /nobody can ask/,
  ],
]
for (const [what, rules, path, reason] of WRONG)
  t.test(`${what} is refused where it is written`, async t => {
    t.match(parsed(rules), { kind: 'invalid', problems: [{ path, reason }] })
  })

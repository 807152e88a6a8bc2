import t from 'tap'
import { createAuthenticator } from '../../../../proxy/authenticate/authenticator.ts'
import { createKeySets } from '../../../../proxy/authenticate/key-sets.ts'
import { VerifiedTokens } from '../../../../proxy/authenticate/verified-tokens.ts'
import { PosternError } from '../../../../shared/errors.ts'
import type { PublicJwk } from '../../../../shared/jwt/jwks.ts'
import { live } from '../../../../shared/live.ts'
import type { JwtRule, RequestAuthentication } from '../../../../shared/policy/request-authentication.ts'
import { RequestHeaders } from '../../../../shared/policy/request-headers.ts'
import { manualClock } from '../../../support/manual-clock.ts'
import { claims, ISSUER, NOW_S, signingKey, token } from '../../../support/tokens.ts'

const KEY = signingKey('one')
const BEARER = { header: 'authorization', prefix: 'Bearer ' }
const rule = (more: Partial<JwtRule> = {}): JwtRule => ({
  issuer: ISSUER,
  audiences: ['orders'],
  keys: { kind: 'inline', keys: [KEY.jwk] },
  from: [BEARER],
  toHeaders: [],
  forward: 'nothing',
  ...more,
})
const document = (...rules: JwtRule[]): RequestAuthentication => ({ name: 'shop/users', rules, features: [] })
const headers = (...fields: readonly (readonly [string, string])[]) => {
  const all = new RequestHeaders()
  for (const [name, value] of fields) all.add(name, value)
  return () => all
}
const bearer = (text: string) => headers(['Authorization', `Bearer ${text}`])

function setUp(documents: readonly RequestAuthentication[], fetched: () => readonly PublicJwk[] = () => []) {
  const clock = manualClock(NOW_S * 1000)
  const stopped = new AbortController()
  let fetches = 0
  const keySets = createKeySets({
    fetch: async () => {
      fetches += 1
      const keys = fetched()
      if (keys.length === 0) throw new PosternError('PSTN_JWKS_UNAVAILABLE', 'away')
      return { keys, unusable: [] }
    },
    clock,
    random: () => 0.5,
    observe: () => undefined,
    signal: stopped.signal,
  })
  const declared = live(documents)
  const authenticator = createAuthenticator(declared, keySets, clock)
  return { clock, declared, keySets, fetches: () => fetches, stop: () => stopped.abort(), ...authenticator }
}

t.test('no token is no user, a good one is who it says, a bad one is refused with its code', async t => {
  const { authenticate } = setUp([document(rule())])
  t.match(authenticate(headers()), { user: undefined, adds: [] })
  t.match(authenticate(headers(['authorization', 'Basic YTpi'])), { user: undefined })
  for (const value of [`Bearer ${token(KEY)}`, `bearer  ${token(KEY)}`, `BEARER ${token(KEY)} `])
    t.match(authenticate(headers(['Authorization', value])), {
      user: { principal: `${ISSUER}/ada`, claims: { sub: 'ada' } },
    })
  const code = (text: string) => {
    try {
      authenticate(bearer(text))
      return 'none'
    } catch (thrown) {
      return thrown instanceof PosternError ? thrown.code : String(thrown)
    }
  }
  t.equal(code(''), 'PSTN_JWT_MALFORMED')
  t.equal(code('abc'), 'PSTN_JWT_MALFORMED')
  t.equal(code(`${token(KEY)}, ${token(KEY)}`), 'PSTN_JWT_MALFORMED')
  t.equal(code(token(KEY, claims({ iss: `${ISSUER}/` }))), 'PSTN_JWT_ISSUER')
  t.equal(code(token(KEY, claims({ iss: undefined }))), 'PSTN_JWT_ISSUER')
  t.equal(code(token(KEY, claims({ aud: 'web' }))), 'PSTN_JWT_AUDIENCE')
  t.equal(code(token(KEY, claims({ exp: NOW_S - 61 }))), 'PSTN_JWT_EXPIRED')
  t.equal(code(token(KEY, claims({ nbf: NOW_S + 120 }))), 'PSTN_JWT_NOT_YET')
  t.equal(code(token(signingKey('two'))), 'PSTN_JWT_KEY_UNKNOWN')
  t.equal(code(token(signingKey('one'))), 'PSTN_JWT_SIGNATURE')
  t.equal(code(token(KEY)), 'none', 'control')
})

t.test('where nothing is declared nothing is read', async t => {
  const { authenticate, owns } = setUp([])
  t.equal(
    authenticate(() => t.fail('read') as never),
    undefined,
  )
  t.notOk(owns('x-user'))
})

t.test('more than one token is refused, wherever they are', async t => {
  const { authenticate } = setUp([document(rule({ from: [BEARER, { header: 'x-token', prefix: '' }] }))])
  const good = token(KEY)
  t.ok(authenticate(headers(['x-token', good]))?.user, 'control')
  for (const fields of [
    [
      ['authorization', `Bearer ${good}`],
      ['x-token', good],
    ],
    [
      ['authorization', `Bearer ${good}`],
      ['authorization', `Bearer ${good}`],
    ],
    [
      ['authorization', `Bearer ${good}`],
      ['Authorization', 'Basic YTpi'],
    ],
    [
      ['x-token', good],
      ['x_token', good],
    ],
    [['x_token', good]],
  ] as const)
    t.throws(
      () => authenticate(headers(...fields)),
      { code: 'PSTN_JWT_MULTIPLE' },
      JSON.stringify(fields.map(([name]) => name)),
    )
})

t.test(
  'a token is hidden from the application unless that is asked for, and claims are told in our words alone',
  async t => {
    const toHeaders = [
      { header: 'x-user', claim: ['sub'] },
      { header: 'x-role', claim: ['realm', 'role'] },
      { header: 'x-list', claim: ['list'] },
      { header: 'x-odd', claim: ['odd'] },
    ]
    const { authenticate, owns } = setUp([document(rule({ toHeaders }))])
    const found = authenticate(
      bearer(token(KEY, claims({ realm: { role: 7 }, list: ['a'], odd: 'a\r\nx-evil: b' }))),
    )
    t.strictSame(found?.adds, [
      ['x-user', 'ada'],
      ['x-role', '7'],
    ])
    for (const name of ['x-user', 'X-User', 'x_user', 'x.USER', 'x-list', 'x-odd', 'Authorization'])
      t.ok(found?.removes(name), name)
    for (const name of ['x-users', 'cookie', 'x-other']) t.notOk(found?.removes(name), name)
    const none = authenticate(headers(['authorization', 'Basic YTpi']))
    t.ok(none?.removes('x_User'), 'without a token too')
    t.notOk(none?.removes('authorization'), 'which is no token of ours')
    t.ok(owns('X_User') && !owns('authorization'))
    const passed = setUp([document(rule({ forward: 'token' }))]).authenticate(bearer(token(KEY)))
    t.notOk(passed?.removes('authorization'))
  },
)

t.test('a rule is for its own issuer, its own places, its own keys', async t => {
  const other = signingKey('one')
  const { authenticate } = setUp([
    document(
      rule(),
      rule({
        issuer: 'b',
        keys: { kind: 'inline', keys: [other.jwk] },
        from: [{ header: 'x-b', prefix: '' }],
      }),
    ),
  ])
  t.ok(authenticate(headers(['x-b', token(other, claims({ iss: 'b' }))]))?.user, 'control')
  t.throws(
    () => authenticate(bearer(token(other, claims({ iss: 'b' })))),
    { code: 'PSTN_JWT_ISSUER' },
    'another place',
  )
  t.throws(() => authenticate(bearer(token(other))), { code: 'PSTN_JWT_SIGNATURE' }, 'another key')
  t.throws(() => authenticate(headers(['x-b', token(KEY)])), { code: 'PSTN_JWT_ISSUER' })
})

t.test('one that was found good in one place is not believed in another', async t => {
  const { authenticate } = setUp([
    document(rule(), rule({ issuer: 'b', from: [{ header: 'x-b', prefix: '' }] })),
  ])
  const text = token(KEY)
  t.ok(authenticate(bearer(text))?.user)
  t.throws(() => authenticate(headers(['x-b', text])), { code: 'PSTN_JWT_ISSUER' })
})

t.test('no subject reads as somebody of another issuer', async t => {
  const { authenticate } = setUp([document(rule(), rule({ issuer: `${ISSUER}/admins` }))])
  t.throws(() => authenticate(bearer(token(KEY, claims({ sub: 'admins/root' })))), {
    code: 'PSTN_JWT_ISSUER',
  })
  t.match(authenticate(bearer(token(KEY, claims({ sub: 'users/root' })))), {
    user: { principal: `${ISSUER}/users/root` },
  })
  t.match(authenticate(bearer(token(KEY, claims({ sub: undefined })))), { user: { principal: undefined } })
  t.match(authenticate(bearer(token(KEY, claims({ sub: 7 })))), { user: { principal: undefined } })
})

t.test('a result is kept until the token ends, and the user with it', async t => {
  const { authenticate, clock, judge } = setUp([document(rule())])
  const text = token(KEY, claims({ exp: NOW_S + 10 }))
  const user = authenticate(bearer(text))?.user
  t.equal(authenticate(bearer(text))?.user, user, 'the same object: nothing was verified again')
  if (!user) return
  t.equal(judge(user), undefined)
  clock.advance(69_000)
  t.equal(authenticate(bearer(text))?.user, user)
  clock.advance(1_000)
  t.throws(() => authenticate(bearer(text)), { code: 'PSTN_JWT_EXPIRED' })
  t.match(judge(user), { code: 'PSTN_JWT_EXPIRED' })
})

t.test(
  'whom a rule or key vouched for that is gone is nobody any more; an edit beside it changes nothing',
  async t => {
    const { authenticate, declared, judge, onChange } = setUp([document(rule())])
    const user = authenticate(bearer(token(KEY)))?.user
    if (!user) return t.fail('no user')
    let changes = 0
    onChange(() => {
      changes += 1
    })
    declared.set([document(rule())])
    t.equal(changes, 0, 'another state that says the same')
    declared.set([document(rule({ issuer: 'b' }), rule())])
    t.equal(changes, 1)
    t.equal(judge(user), undefined)
    declared.set([document(rule({ audiences: ['web'] }))])
    t.match(judge(user), { code: 'PSTN_JWT_KEY_UNKNOWN' })
    t.throws(() => authenticate(bearer(token(KEY))), { code: 'PSTN_JWT_AUDIENCE' })
    declared.set([])
    t.equal(authenticate(bearer('nonsense')), undefined)
    return undefined
  },
)

t.test('a document that is not understood refuses every request', async t => {
  const { authenticate } = setUp([{ ...document(rule()), features: ['sorcery'] }])
  t.throws(() => authenticate(headers()), {
    code: 'PSTN_POLICY_UNSUPPORTED',
    message: /shop\/users.*sorcery/,
  })
})

t.test('keys by URL: fetched at once, again every five minutes, and the last good ones stay', async t => {
  let keys: readonly PublicJwk[] = []
  const fetchedRule = rule({ keys: { kind: 'uri', uri: 'https://id.example/keys' } })
  const { authenticate, clock, fetches, judge, stop, keySets, declared } = setUp(
    [document(fetchedRule)],
    () => keys,
  )
  const settled = () => new Promise(resolve => setImmediate(resolve))
  await settled()
  t.equal(fetches(), 1)
  t.equal(keySets.oldest(), 0)
  t.throws(
    () => authenticate(bearer(token(KEY))),
    { code: 'PSTN_JWKS_UNAVAILABLE' },
    'not the caller’s fault',
  )
  keys = [KEY.jwk]
  clock.advance(1_000)
  await settled()
  t.equal(fetches(), 2, 'tried again soon')
  const user = authenticate(bearer(token(KEY)))?.user
  if (!user) return t.fail('no user')
  t.equal(keySets.oldest(), NOW_S * 1000 + 1_000)

  const next = signingKey('two')
  t.throws(() => authenticate(bearer(token(next))), { code: 'PSTN_JWT_KEY_UNKNOWN' })
  await settled()
  t.equal(fetches(), 2, 'asked a second ago')
  keys = [KEY.jwk, next.jwk]
  clock.advance(30_000)
  t.throws(() => authenticate(bearer(token(next))), { code: 'PSTN_JWT_KEY_UNKNOWN' }, 'it does not wait')
  await settled()
  t.equal(fetches(), 3)
  t.ok(authenticate(bearer(token(next)))?.user, 'found by then')
  t.equal(judge(user), undefined, 'the key that stays vouches on')
  for (let i = 0; i < 100; i += 1) t.throws(() => authenticate(bearer(token(signingKey('x')))))
  await settled()
  t.equal(fetches(), 3, 'strangers make us ask no more often')

  keys = []
  clock.advance(300_000)
  await settled()
  t.equal(fetches(), 4)
  t.ok(authenticate(bearer(token(KEY)))?.user, 'the last good ones stay')
  keys = [next.jwk]
  clock.advance(60_000)
  await settled()
  t.match(judge(user), { code: 'PSTN_JWT_KEY_UNKNOWN' }, 'a key that the issuer took away')
  t.throws(() => authenticate(bearer(token(KEY))), { code: 'PSTN_JWT_KEY_UNKNOWN' })
  declared.set([])
  const before = fetches()
  clock.advance(3_600_000)
  await settled()
  t.equal(fetches(), before, 'nobody asks for keys that nobody needs')
  stop()
  return undefined
})

t.test('what is kept is bounded', async t => {
  const tokens = new VerifiedTokens()
  const verified = {
    user: { principal: 'a', claims: {} },
    rule: rule(),
    key: { jwk: KEY.jwk, key: KEY.privateKey },
    endsAt: 1,
  }
  for (let i = 0; i < 5_000; i += 1) tokens.add('p', `token ${i}`, verified)
  t.equal(tokens.size, 4_096)
  for (let i = 0; i < 300; i += 1) tokens.add('p', `${i}${'x'.repeat(16 * 1024)}`, verified)
  t.ok(tokens.size <= 128)
  t.ok(tokens.get('p', `299${'x'.repeat(16 * 1024)}`, 0))
  t.equal(tokens.get('p', `299${'x'.repeat(16 * 1024)}`, 1), undefined)
})

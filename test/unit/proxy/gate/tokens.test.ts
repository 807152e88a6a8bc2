// Tokens of end users on both gates, in memory: what policy is told, what the application gets, what the caller is answered.
import t from 'tap'
import { createAuthenticator } from '../../../../proxy/authenticate/authenticator.ts'
import { createKeySets } from '../../../../proxy/authenticate/key-sets.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { live } from '../../../../shared/live.ts'
import type { JwtRule } from '../../../../shared/policy/request-authentication.ts'
import { gateInMemory } from '../../../support/gate-in-memory.ts'
import { GET, http2InMemory, POST } from '../../../support/http2-in-memory.ts'
import { manualClock } from '../../../support/manual-clock.ts'
import { claims, confused, ISSUER, NOW_S, signingKey, token } from '../../../support/tokens.ts'

const KEY = signingKey('one')
const TOKEN = token(KEY)
const EXPIRED = token(KEY, claims({ exp: 1 }))

const rule: JwtRule = {
  issuer: ISSUER,
  audiences: ['orders'],
  keys: { kind: 'inline', keys: [KEY.jwk] },
  from: [{ header: 'authorization', prefix: 'Bearer ' }],
  toHeaders: [{ header: 'x-user', claim: ['sub'] }],
  forward: 'nothing',
}

function authenticator(changes: Partial<JwtRule> = {}) {
  const clock = manualClock(NOW_S * 1000)
  const keySets = createKeySets({
    fetch: async () => Promise.reject(new PosternError('PSTN_JWKS_UNAVAILABLE', 'away')),
    clock,
    random: () => 0,
    observe: () => undefined,
    signal: AbortSignal.abort(),
  })
  return createAuthenticator(
    live([{ name: 'shop/users', rules: [{ ...rule, ...changes }], features: [] }]),
    keySets,
    clock,
  )
}

const head = (...lines: string[]) =>
  `GET /a HTTP/1.1\r\nHost: a\r\n${lines.map(line => `${line}\r\n`).join('')}\r\n`
const gate1 = (changes?: Partial<JwtRule>, clientCert?: string) =>
  gateInMemory({ authenticator: authenticator(changes), forwardedClientCert: clientCert })

t.test(
  'HTTP/1.1: policy is told the user, the application the claim, and the token goes no further',
  async t => {
    const { caller, application, asked } = gate1({}, 'By=a')
    caller.send(head(`Authorization: Bearer ${TOKEN}`, 'X-User: root', 'x_user: root', 'Accept: b'))
    t.match(asked[0], { path: '/a', user: { principal: `${ISSUER}/ada` } })
    t.equal(
      application.text,
      'GET /a HTTP/1.1\r\nx-forwarded-client-cert: By=a\r\nx-user: ada\r\nHost: a\r\nAccept: b\r\n\r\n',
    )
  },
)

t.test('HTTP/1.1: without a token there is no user, and nobody else’s claim', async t => {
  const { caller, application, asked } = gate1()
  caller.send(head('X-USER: root', 'Authorization: Basic YTpi'))
  t.notOk(asked[0]?.user)
  t.equal(application.text, head('Authorization: Basic YTpi').replace('authorization', 'Authorization'))
})

t.test('HTTP/1.1: the token stays where that is asked for, and other lines stay as they were', async t => {
  const { caller, application } = gate1({ forward: 'token', toHeaders: [] })
  const text = head('A:  b ', `authorization: bearer ${TOKEN}`, 'X-User: root')
  caller.send(text)
  t.equal(application.text, text)
})

t.test('policies see the headers that the application gets, not those that the caller wrote', async t => {
  const spoofed = [
    ['x-user', 'root'],
    ['x_user', 'root'],
    ['a', 'b'],
  ] as const
  const names = ['x-user', 'authorization', 'a']
  for (const [sent, user] of [
    [['authorization', `Bearer ${TOKEN}`], 'ada'],
    [['c', 'd'], undefined],
  ] as const) {
    const one = gateInMemory({ authenticator: authenticator(), readsHeaders: () => true })
    one.caller.send(head(...[sent, ...spoofed].map(field => field.join(': '))))
    const two = http2InMemory({ authenticator: authenticator(), readsHeaders: () => true })
    two.caller.send(two.request(1, [...GET, sent, ...spoofed], true))
    for (const { asked } of [one, two])
      t.same(
        names.map(name => asked[0]?.headers?.get(name)),
        [user, undefined, 'b'],
      )
  }
})

t.test('HTTP/1.1: a bad token is answered with 401 and its code, and the connection goes on', async t => {
  for (const [bad, code] of [
    [EXPIRED, 'PSTN_JWT_EXPIRED'],
    [confused(KEY), 'PSTN_JWT_MALFORMED'],
    [token(signingKey('one')), 'PSTN_JWT_SIGNATURE'],
  ] as const) {
    const { caller, application, asked, outcomes } = gate1()
    caller.send(head(`Authorization: Bearer ${bad}`) + head(`Authorization: Bearer ${TOKEN}`))
    t.match(caller.text, /^HTTP\/1\.1 401 Unauthorized\r\n/)
    t.match(caller.text, `postern-code: ${code}\r\n`)
    t.match(caller.text, 'www-authenticate: Bearer error="invalid_token"\r\n')
    t.notMatch(caller.text, bad)
    t.equal(asked.length, 1, 'only the second was decided on')
    t.match(outcomes, [{ status: 401, refusal: { code }, request: { path: '/a' } }])
    t.match(application.text, /^GET \/a/)
  }
})

t.test('HTTP/1.1: two tokens are refused, on one line and on two', async t => {
  const { caller, application, outcomes } = gate1()
  const line = `Authorization: Bearer ${TOKEN}`
  caller.send(head(line, line))
  caller.send(head(line, 'authorization: Basic YTpi'))
  t.match(outcomes, [{ refusal: { code: 'PSTN_JWT_MULTIPLE' } }, { refusal: { code: 'PSTN_JWT_MULTIPLE' } }])
  t.equal(application.text, '')
})

t.test('HTTP/1.1: what we say cannot be taken away by connection, nor said again in a trailer', async t => {
  for (const option of ['x-user', 'X_User', 'x-user, close']) {
    const { caller, application, outcomes } = gate1()
    caller.send(head(`Authorization: Bearer ${TOKEN}`, `Connection: ${option}`))
    t.match(outcomes, [{ status: 400, refusal: { code: 'PSTN_HTTP_MALFORMED' } }], option)
    t.equal(application.text, '')
  }
  const chunked = (trailer: string) =>
    `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n${trailer}: root\r\n\r\n`
  for (const trailer of ['x-user', 'X_USER']) {
    const { caller, application } = gate1()
    caller.send(chunked(trailer))
    t.notMatch(application.text, /root/)
    t.match(caller.text, /^HTTP\/1\.1 400/)
  }
  const { caller, application } = gate1()
  caller.send(chunked('x-other'))
  t.match(application.text, /x-other: root/, 'control')
})

t.test('HTTP/1.1: the head that comes in pieces is read as one', async t => {
  const { caller, application, asked } = gate1()
  for (const character of head(`Authorization: Bearer ${TOKEN}`)) caller.send(character)
  t.equal(asked[0]?.user?.principal, `${ISSUER}/ada`)
  t.notMatch(application.text, /uthorization/)
})

t.test('HTTP/1.1: keys that are not known yet are no fault of the caller', async t => {
  const { caller } = gate1({ keys: { kind: 'uri', uri: 'https://id.example' } })
  caller.send(head(`Authorization: Bearer ${TOKEN}`))
  t.match(caller.text, /^HTTP\/1\.1 503 /)
  t.match(caller.text, /PSTN_JWKS_UNAVAILABLE/)
})

const gate2 = (changes?: Partial<JwtRule>) => http2InMemory({ authenticator: authenticator(changes) })
const forwarded = (seen: readonly (readonly unknown[])[]) => {
  const found = seen.find(([kind]) => kind === 'headers')?.[2]
  return Array.isArray(found) ? found.map(field => `${field[0]}: ${field[1]}`) : undefined
}

t.test(
  'HTTP/2: policy is told the user, the application the claim, and the token goes no further',
  async t => {
    const { caller, asked, request, seenByApplication } = gate2()
    caller.send(
      request(
        1,
        [...GET, ['authorization', `Bearer ${TOKEN}`], ['x-user', 'root'], ['x_user', 'root'], ['a', 'b']],
        true,
      ),
    )
    t.match(asked[0], { user: { principal: `${ISSUER}/ada` } })
    const fields = forwarded(seenByApplication())
    t.same(fields?.slice(4), ['a: b', 'x-user: ada'])
  },
)

t.test('HTTP/2: without a token there is no user, and nobody else’s claim', async t => {
  const { caller, asked, request, seenByApplication } = gate2()
  caller.send(request(1, [...GET, ['x-user', 'root'], ['authorization', 'Basic YTpi']], true))
  t.notOk(asked[0]?.user)
  t.same(forwarded(seenByApplication())?.slice(4), ['authorization: Basic YTpi'])
})

t.test(
  'HTTP/2: a bad token is answered with 401, of gRPC with UNAUTHENTICATED, and other streams go on',
  async t => {
    const { caller, outcomes, request, seenByCaller, seenByApplication, asked } = gate2()
    const bad = ['authorization', `Bearer ${EXPIRED}`] as const
    caller.send(request(1, [...POST, bad]))
    t.same(forwarded(seenByCaller()), [
      ':status: 401',
      'postern-code: PSTN_JWT_EXPIRED',
      'content-length: 0',
      'www-authenticate: Bearer error="invalid_token"',
    ])
    caller.send(request(3, [...POST, bad, ['content-type', 'application/grpc']]))
    t.match(forwarded(seenByCaller()), [':status: 200', 'content-type: application/grpc', 'grpc-status: 16'])
    t.match(outcomes, [
      { status: 401, refusal: { code: 'PSTN_JWT_EXPIRED' }, request: { path: '/' } },
      { status: 401, refusal: { code: 'PSTN_JWT_EXPIRED' } },
    ])
    t.equal(forwarded(seenByApplication()), undefined)
    caller.send(request(5, [...GET, ['authorization', `Bearer ${TOKEN}`]], true))
    t.equal(asked.length, 1)
  },
)

t.test('HTTP/2: two tokens are refused, and claims in trailers', async t => {
  const { caller, outcomes, request, seenByApplication } = gate2()
  const good = ['authorization', `Bearer ${TOKEN}`] as const
  caller.send(request(1, [...GET, good, good], true))
  t.match(outcomes, [{ refusal: { code: 'PSTN_JWT_MULTIPLE' } }])
  caller.send(request(3, [...POST, good]))
  caller.send(request(3, [['x_user', 'root']], true))
  t.match(outcomes[1], { refusal: { code: 'PSTN_HTTP_MALFORMED' } })
  t.notMatch(JSON.stringify(seenByApplication()), /root/)
})

t.test('a request that lives is told when its user is none any more', async t => {
  const { caller, live, seenByCaller, request, outcomes } = gate2()
  caller.send(request(1, [...POST, ['authorization', `Bearer ${TOKEN}`]]))
  for (const tell of live) tell(new PosternError('PSTN_JWT_EXPIRED', 'over'))
  t.match(seenByCaller(), [['rstStream', 1, 8]])
  t.match(outcomes, [{ refusal: { code: 'PSTN_JWT_EXPIRED' } }])
})

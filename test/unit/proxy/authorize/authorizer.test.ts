import t, { type Test } from 'tap'
import { createAuthorizer } from '../../../../proxy/authorize/authorizer.ts'
import type { Revoked } from '../../../../proxy/authorize/grants.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { live, mapped } from '../../../../shared/live.ts'
import { type CompiledPolicy, compile } from '../../../../shared/policy/compile.ts'
import type {
  AuthorizationPolicy,
  HttpRequest,
  OperationMatch,
  PolicySet,
} from '../../../../shared/policy/model.ts'
import { NO_PROTOCOLS, type Protocols } from '../../../../shared/protocol.ts'

const CLIENT = { identity: 'spiffe://cluster.local/ns/shop/sa/client', address: '10.0.0.1' }
const PLAIN = { address: '10.0.0.2' }
const at = (port: number) => ({ address: '10.0.0.9', port })
const GET: HttpRequest = { method: 'GET', host: 'orders', path: '/orders' }
const DELETE: HttpRequest = { ...GET, method: 'DELETE' }

const policies = (set: Partial<PolicySet> = {}): CompiledPolicy =>
  compile(
    { mode: { inbound: 'permissive', ports: {} }, policies: [], defaultAction: 'allow', ...set },
    { trustDomain: 'cluster.local' },
  )

const deny = (name: string, operation: OperationMatch): AuthorizationPolicy => ({
  kind: 'AuthorizationPolicy',
  name: `shop/${name}`,
  action: 'DENY',
  rules: [{ to: [operation] }],
  features: [],
})
const denyPort = (port: number) => deny(`no-${port}`, { ports: [port] })
const noDelete = policies({ policies: [deny('no-delete', { methods: ['DELETE'] })] })

function given(t: Test, { policy = policies(), protocols = NO_PROTOCOLS }: Given = {}) {
  const lives = { policy: live<CompiledPolicy | undefined>(policy), protocols: live(protocols) }
  const authorizer = createAuthorizer(lives.policy, lives.protocols)
  t.teardown(() => authorizer[Symbol.dispose]())
  return { ...lives, authorizer }
}
type Given = { policy?: CompiledPolicy; protocols?: Protocols }

/** As the sidecar has them: both of one state. */
function givenState(t: Test, before: Told) {
  const state = live<Told>(before)
  const policy = mapped(state, ({ policy }) => policy)
  const protocols = mapped(state, ({ protocols }) => protocols)
  const authorizer = createAuthorizer(policy, protocols)
  t.teardown(() => authorizer[Symbol.dispose]())
  return { state, authorizer }
}
type Told = { readonly policy: CompiledPolicy; readonly protocols: Protocols }

const unexpected = (why: Revoked) => t.fail(`revoked: ${why.message}`)

t.test('before the first policy nothing is decided', async t => {
  const policy = live<CompiledPolicy | undefined>(undefined)
  using authorizer = createAuthorizer(policy, live<Protocols>({ 80: 'http1' }))
  for (const port of [80, 81])
    t.throws(() => authorizer.authorizeConnection(CLIENT, at(port)), { code: 'PSTN_NOT_READY' })
  t.throws(() => authorizer.authorizeRequest(CLIENT, at(80), GET, unexpected), { code: 'PSTN_NOT_READY' })
  policy.set(policies({ policies: [denyPort(80), denyPort(81)] }))
  t.pass('and nothing of it is registered')
})

t.test('plaintext must pass the mode of its port before any policy is asked', async t => {
  const mode = { inbound: 'strict', ports: { '8080': 'permissive' } } as const
  const { authorizer } = given(t, { policy: policies({ mode }), protocols: { 80: 'http1', 8080: 'http2' } })
  for (const refused of [
    authorizer.authorizeConnection(PLAIN, at(80)),
    authorizer.authorizeConnection(PLAIN, at(81)),
    authorizer.authorizeRequest(PLAIN, at(80), GET, unexpected),
  ])
    t.match(refused.decision, { allow: false, code: 'PSTN_PLAINTEXT_REFUSED' })
  t.match(authorizer.authorizeConnection(PLAIN, at(8080)).decision, { allow: true })
  t.match(authorizer.authorizeConnection(CLIENT, at(80)).decision, { allow: true })
})

t.test('a change ends what it forbids with the policy that does, and leaves the rest', async t => {
  const { authorizer, policy } = given(t)
  const forbidden = authorizer.authorizeConnection(CLIENT, at(80))
  const other = authorizer.authorizeConnection(CLIENT, at(81))
  policy.set(policies({ policies: [denyPort(80)] }))
  t.match(forbidden.signal.reason, { code: 'PSTN_POLICY_DENIED', policy: 'shop/no-80', rule: 0 })
  t.equal(other.signal.aborted, false)
})

t.test('a change that comes while a connection or request is decided on is not missed', async t => {
  const inner = policies()
  const { authorizer, policy } = given(t)
  // The decision itself is the moment: whoever asks for the caller finds the policy changed by then.
  const changing: CompiledPolicy = {
    ...inner,
    callerOf: identity => {
      if (policy.get() === changing) policy.set(policies({ policies: [denyPort(80)] }))
      return inner.callerOf(identity)
    },
  }
  policy.set(changing)
  const grant = authorizer.authorizeConnection(CLIENT, at(80))
  t.equal(grant.decision.allow, true, 'by the policy of before')
  t.equal(grant.signal.aborted, true, 'and revoked by the one of after')

  policy.set(changing)
  const told: Revoked[] = []
  t.equal(authorizer.authorizeRequest(CLIENT, at(80), GET, why => told.push(why)).decision.allow, true)
  t.match(told, [{ code: 'PSTN_POLICY_DENIED' }])
})

t.test('all that was let in can be ended, with a reason, and nothing else', async t => {
  const { authorizer } = given(t, { policy: policies({ policies: [denyPort(80)] }) })
  const [refused, over, open, other] = [80, 81, 82, 83].map(port =>
    authorizer.authorizeConnection(CLIENT, at(port)),
  )
  over?.[Symbol.dispose]()
  const why = new PosternError('PSTN_DRAINING', 'the time is over')
  authorizer.endAll(why)
  for (const grant of [open, other]) t.equal(grant?.signal.reason, why)
  for (const grant of [refused, over]) t.equal(grant?.signal.aborted, false)
})

t.test('what has ended is not decided on again', async t => {
  const { authorizer, policy } = given(t, { protocols: { 81: 'http1' } })
  const grant = authorizer.authorizeConnection(CLIENT, at(80))
  const request = authorizer.authorizeRequest(CLIENT, at(81), GET, unexpected)
  grant[Symbol.dispose]()
  request[Symbol.dispose]()
  policy.set(policies({ policies: [denyPort(80), denyPort(81)] }))
  t.equal(grant.signal.aborted, false)
})

t.test('a connection of requests is let in if one could pass, and its requests are decided on', async t => {
  const policy = policies({
    policies: [denyPort(80), deny('no-delete', { ports: [82], methods: ['DELETE'] })],
  })
  const { authorizer } = given(t, { policy, protocols: { 80: 'http1', 81: 'http1', 82: 'http2' } })
  const refused = { allow: false, code: 'PSTN_POLICY_DENIED', policy: 'shop/no-80', rule: 0 }
  t.match(authorizer.authorizeConnection(CLIENT, at(80)), { decision: refused, protocol: 'http1' })
  t.match(authorizer.authorizeRequest(CLIENT, at(80), GET, unexpected).decision, refused)
  t.match(authorizer.authorizeConnection(CLIENT, at(82)), { decision: { allow: true }, protocol: 'http2' })
  t.equal(authorizer.authorizeRequest(CLIENT, at(82), DELETE, unexpected).decision.allow, false)
  t.equal(authorizer.authorizeRequest(CLIENT, at(82), GET, unexpected).decision.allow, true)
})

t.test('a connection of requests ends when none of them could pass any more', async t => {
  const { authorizer, policy } = given(t, { protocols: { 80: 'http1', 81: 'http1' } })
  const forbidden = authorizer.authorizeConnection(CLIENT, at(80))
  const other = authorizer.authorizeConnection(CLIENT, at(81))
  policy.set(policies({ policies: [denyPort(80), deny('no-delete', { methods: ['DELETE'] })] }))
  t.match(forbidden.signal.reason, { code: 'PSTN_POLICY_DENIED', policy: 'shop/no-80' })
  t.equal(other.signal.aborted, false)
})

t.test('a connection of opaque bytes is refused what only some requests are', async t => {
  const { authorizer } = given(t, { policy: noDelete, protocols: { 80: 'http1' } })
  const { decision, protocol } = authorizer.authorizeConnection(CLIENT, at(81))
  t.match(
    { decision, protocol },
    { decision: { allow: false, policy: 'shop/no-delete' }, protocol: undefined },
  )
  t.equal(
    authorizer.authorizeConnection(CLIENT, at(80)).decision.allow,
    true,
    'control: where they are told apart',
  )
})

t.test('a change is told once to each request that it forbids, and to no other', async t => {
  const { authorizer, policy } = given(t, { protocols: { 80: 'http1' } })
  const connection = authorizer.authorizeConnection(CLIENT, at(80))
  const told: Revoked[] = []
  authorizer.authorizeRequest(CLIENT, at(80), DELETE, why => told.push(why))
  authorizer.authorizeRequest(CLIENT, at(80), GET, unexpected)
  policy.set(noDelete)
  policy.set(noDelete)
  t.match(told, [{ code: 'PSTN_POLICY_DENIED', policy: 'shop/no-delete', rule: 0 }])
  t.equal(told.length, 1)
  t.equal(connection.signal.aborted, false, 'the connection stays for what is allowed')
})

t.test('one that fails to end does not save the others', async t => {
  const { authorizer, policy } = given(t, { protocols: { 80: 'http1' } })
  const told: Revoked[] = []
  for (const fails of [true, false, true])
    authorizer.authorizeRequest(CLIENT, at(80), DELETE, why => {
      if (fails) throw new Error('cannot end')
      told.push(why)
    })
  t.throws(() => policy.set(noDelete), { errors: [{ message: 'cannot end' }, { message: 'cannot end' }] })
  t.equal(told.length, 1)
})

const CHANGES: readonly (readonly [it: string, before: Protocols, after: Protocols])[] = [
  ['opaque bytes that are now requests', {}, { 80: 'http1' }],
  ['requests that are now opaque bytes', { 80: 'http1' }, {}],
  ['requests of another protocol', { 80: 'http1' }, { 80: 'http2' }],
]
for (const [it, before, after] of CHANGES)
  t.test(`a live connection of ${it} is closed, since other rules hold for it now`, async t => {
    const { authorizer, protocols } = given(t, { protocols: before })
    const changed = authorizer.authorizeConnection(CLIENT, at(80))
    const other = authorizer.authorizeConnection(CLIENT, at(81))
    protocols.set(after)
    t.match(changed.signal.reason, { code: 'PSTN_PROTOCOL_CHANGED', message: /port 80 was/ })
    t.equal(changed.protocol, before[80], 'it keeps what it was accepted with')
    t.equal(other.signal.aborted, false)
    protocols.set(before)
    t.match(changed.signal.reason, { code: 'PSTN_PROTOCOL_CHANGED' }, 'once and for all')
    t.equal(authorizer.authorizeConnection(CLIENT, at(80)).protocol, before[80])
  })

t.test('a state that changes both gives the protocol as the reason, whichever is told first', async t => {
  const { state, authorizer } = givenState(t, { policy: policies(), protocols: NO_PROTOCOLS })
  const { signal } = authorizer.authorizeConnection(CLIENT, at(80))
  state.set({ policy: noDelete, protocols: { 80: 'http1' } })
  t.match(signal.reason, { code: 'PSTN_PROTOCOL_CHANGED' })
})

t.test('a connection that fails to end saves neither connections nor requests', async t => {
  const before: Told = { policy: policies(), protocols: { 80: 'http1', 82: 'http1' } }
  const { state, authorizer } = givenState(t, before)
  const connections = [82, 81].map(port => authorizer.authorizeConnection(CLIENT, at(port)))
  const told: Revoked[] = []
  authorizer.authorizeRequest(CLIENT, at(80), DELETE, why => told.push(why))
  for (const { signal } of connections)
    signal.addEventListener('abort', () => {
      throw new Error('cannot end')
    })
  const policy = policies({ policies: [denyPort(81), deny('no-delete', { methods: ['DELETE'] })] })
  const errors = [{ message: 'cannot end' }, { message: 'cannot end' }]
  t.throws(() => state.set({ policy, protocols: { 80: 'http1' } }), { errors })
  t.match(
    connections.map(({ signal }) => signal.reason),
    [{ code: 'PSTN_PROTOCOL_CHANGED' }, { code: 'PSTN_POLICY_DENIED' }],
  )
  t.match(told, [{ code: 'PSTN_POLICY_DENIED' }])
})

t.test('a policy that is lost forbids everything', async t => {
  const { authorizer, policy } = given(t)
  const { signal } = authorizer.authorizeConnection(CLIENT, at(80))
  policy.set(undefined)
  t.match(signal.reason, { code: 'PSTN_NOT_READY' })
})

t.test('a request whose user is none any more is ended, and no other', async t => {
  const { authorizer } = given(t, { protocols: { 80: 'http1' } })
  const [ada, bob] = ['ada', 'bob'].map(name => ({ principal: `i/${name}`, claims: {} }))
  const told: Revoked[] = []
  const ask = (user: typeof ada) =>
    authorizer.authorizeRequest(CLIENT, at(80), { ...GET, ...(user && { user }) }, why => told.push(why))
  using _ada = ask(ada)
  using _bob = ask(bob)
  using _nobody = ask(undefined)
  const judge = (user: object) => (user === ada ? new PosternError('PSTN_JWT_EXPIRED', 'over') : undefined)
  authorizer.judgeUsers(judge)
  authorizer.judgeUsers(judge)
  t.match(told, [{ code: 'PSTN_JWT_EXPIRED', message: 'over' }])
  t.equal(told.length, 1, 'once')
})

import t from 'tap'
import { createAuthorizer } from '../../../../proxy/authorize/authorizer.ts'
import { live } from '../../../../shared/live.ts'
import { type CompiledPolicy, compile } from '../../../../shared/policy/compile.ts'
import type { AuthorizationPolicy, PolicySet } from '../../../../shared/policy/model.ts'

const CLIENT = { identity: 'spiffe://cluster.local/ns/shop/sa/client', address: '10.0.0.1' }
const PLAIN = { address: '10.0.0.2' }

const policies = (set: Partial<PolicySet> = {}): CompiledPolicy =>
  compile(
    { mode: { inbound: 'permissive', ports: {} }, policies: [], defaultAction: 'allow', ...set },
    { trustDomain: 'cluster.local' },
  )

const denyPort = (port: number): AuthorizationPolicy => ({
  kind: 'AuthorizationPolicy',
  name: `shop/no-${port}`,
  action: 'DENY',
  rules: [{ to: [{ ports: [port] }] }],
  features: [],
})

t.test('before the first policy nothing is decided', async t => {
  using authorizer = createAuthorizer(live<CompiledPolicy | undefined>(undefined))
  t.throws(() => authorizer.authorize(CLIENT, 80), { code: 'PSTN_NOT_READY' })
})

t.test('plaintext must pass the mode of its port before any policy is asked', async t => {
  const mode = { inbound: 'strict', ports: { '8080': 'permissive' } } as const
  using authorizer = createAuthorizer(live<CompiledPolicy | undefined>(policies({ mode })))
  t.match(authorizer.authorize(PLAIN, 80).decision, { allow: false, code: 'PSTN_PLAINTEXT_REFUSED' })
  t.match(authorizer.authorize(PLAIN, 8080).decision, { allow: true })
  t.match(authorizer.authorize(CLIENT, 80).decision, { allow: true })
})

t.test('a change ends what it forbids with the policy that does, and leaves the rest', async t => {
  const policy = live<CompiledPolicy | undefined>(policies())
  using authorizer = createAuthorizer(policy)
  const forbidden = authorizer.authorize(CLIENT, 80)
  const other = authorizer.authorize(CLIENT, 81)
  policy.set(policies({ policies: [denyPort(80)] }))
  t.match(forbidden.signal.reason, { code: 'PSTN_POLICY_DENIED', policy: 'shop/no-80', rule: 0 })
  t.equal(other.signal.aborted, false)
})

t.test('a change that comes while a connection is decided on is not missed', async t => {
  const policy = live<CompiledPolicy | undefined>(undefined)
  const inner = policies()
  // The decision itself is the moment: whoever asks for the caller finds the policy changed by then.
  const changing: CompiledPolicy = {
    ...inner,
    callerOf: identity => {
      if (policy.get() === changing) policy.set(policies({ policies: [denyPort(80)] }))
      return inner.callerOf(identity)
    },
  }
  policy.set(changing)
  using authorizer = createAuthorizer(policy)
  const grant = authorizer.authorize(CLIENT, 80)
  t.equal(grant.decision.allow, true, 'by the policy of before')
  t.equal(grant.signal.aborted, true, 'and revoked by the one of after')
})

t.test('a connection that has ended is not decided on again', async t => {
  const policy = live<CompiledPolicy | undefined>(policies())
  using authorizer = createAuthorizer(policy)
  const grant = authorizer.authorize(CLIENT, 80)
  grant[Symbol.dispose]()
  policy.set(policies({ policies: [denyPort(80)] }))
  t.equal(grant.signal.aborted, false)
})

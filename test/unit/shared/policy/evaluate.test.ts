import t from 'tap'
import { compile } from '../../../../shared/policy/compile.ts'
import { evaluate, evaluateAnyRequest, inboundMode, observe } from '../../../../shared/policy/evaluate.ts'
import type {
  AuthorizationPolicy,
  Decision,
  HttpRequest,
  OperationMatch,
  PolicySet,
  Rule,
  SourceMatch,
} from '../../../../shared/policy/model.ts'

const TRUST_DOMAIN = 'cluster.local'
const ORDERS = 'spiffe://cluster.local/ns/shop/sa/orders'
const FOREIGN = 'spiffe://partner.example/ns/shop/sa/orders'
const ODD = 'spiffe://cluster.local/injector'

const policy = (action: 'ALLOW' | 'DENY', ...rules: Rule[]): AuthorizationPolicy => ({
  kind: 'AuthorizationPolicy',
  name: `shop/${action.toLowerCase()}`,
  action,
  rules,
  features: ['l4'],
})

const from = (...sources: SourceMatch[]): Rule => ({ from: sources })

const decide = (
  policies: readonly AuthorizationPolicy[],
  identity: string | undefined,
  port = 8080,
  rest: Partial<PolicySet> = {},
  http?: HttpRequest,
): Decision => {
  const set: PolicySet = {
    mode: { inbound: 'permissive', ports: {} },
    policies,
    defaultAction: 'allow',
    ...rest,
  }
  const caller = { address: '10.0.0.7', ...(identity !== undefined && { identity }) }
  return evaluate(compile(set, { trustDomain: TRUST_DOMAIN }), { caller, port, http })
}

t.test('without a policy the default holds', async t => {
  t.strictSame(decide([], ORDERS), { allow: true })
  t.strictSame(decide([], undefined), { allow: true })
  t.match(decide([], ORDERS, 80, { defaultAction: 'deny' }), { allow: false, code: 'PSTN_POLICY_DENIED' })
})

t.test('the default to allow is not for other trust domains: they need a rule that matches', async t => {
  t.strictSame(decide([], ODD), { allow: true }, 'control: our own, whatever its form')
  t.match(decide([], FOREIGN), { allow: false, code: 'PSTN_POLICY_DENIED', reason: /other trust domains/ })
  t.match(decide([policy('DENY', from({ namespaces: ['none'] }))], FOREIGN), { allow: false })
  const allow = policy('ALLOW', from({ principals: [FOREIGN.slice('spiffe://'.length)] }))
  t.match(decide([allow], FOREIGN), { allow: true, policy: 'shop/allow' })
  t.match(decide([allow], `${FOREIGN}-2`), { allow: false, policy: 'shop/allow' })
  t.match(decide([policy('ALLOW', {})], FOREIGN), { allow: true }, 'an empty rule means everybody')
})

t.test('DENY is asked before ALLOW', async t => {
  const both = [policy('ALLOW', {}), policy('DENY', from({ namespaces: ['shop'] }))]
  t.match(decide(both, ORDERS), { allow: false, policy: 'shop/deny', rule: 0 })
  t.strictSame(decide(both, 'spiffe://cluster.local/ns/other/sa/a'), {
    allow: true,
    policy: 'shop/allow',
    rule: 0,
  })
})

t.test('once an ALLOW policy selects the pod, what none allows is refused and the policy named', async t => {
  const allow = policy('ALLOW', from({ serviceAccounts: ['shop/web'] }), from({ principals: ['*/sa/cron'] }))
  t.match(decide([allow], ORDERS), { allow: false, code: 'PSTN_POLICY_DENIED', policy: 'shop/allow' })
  t.match(decide([allow], 'spiffe://cluster.local/ns/a/sa/cron'), { allow: true, rule: 1 })
  t.match(decide([allow, { ...allow, name: 'shop/more' }], ORDERS), { reason: /shop\/allow, shop\/more/ })
})

t.test(
  'an ALLOW policy without rules allows nothing, a DENY policy without rules denies nothing',
  async t => {
    t.equal(decide([policy('ALLOW')], ORDERS).allow, false)
    t.equal(decide([policy('DENY')], ORDERS).allow, true)
  },
)

const MATCHES: readonly {
  readonly it: string
  readonly source: SourceMatch
  /** For each caller: does the source match under ALLOW, under DENY? */
  readonly orders: readonly [boolean, boolean]
  readonly foreign: readonly [boolean, boolean]
  readonly odd: readonly [boolean, boolean]
}[] = [
  {
    it: 'an exact principal',
    source: { principals: ['cluster.local/ns/shop/sa/orders'] },
    orders: [true, true],
    foreign: [false, false],
    odd: [false, false],
  },
  {
    it: 'any principal',
    source: { principals: ['*'] },
    orders: [true, true],
    foreign: [true, true],
    odd: [true, true],
  },
  {
    it: 'a principal by prefix',
    source: { principals: ['partner.example/*'] },
    orders: [false, false],
    foreign: [true, true],
    odd: [false, false],
  },
  {
    it: 'another principal',
    source: { notPrincipals: ['cluster.local/ns/shop/sa/web'] },
    orders: [true, true],
    foreign: [false, true],
    odd: [false, true],
  },
  {
    it: 'a namespace',
    source: { namespaces: ['shop'] },
    orders: [true, true],
    foreign: [false, false],
    odd: [false, false],
  },
  {
    it: 'another namespace',
    source: { notNamespaces: ['bank'] },
    orders: [true, true],
    foreign: [false, true],
    odd: [false, true],
  },
  {
    it: 'not this namespace',
    source: { notNamespaces: ['sh*'] },
    orders: [false, false],
    foreign: [false, true],
    odd: [false, true],
  },
  {
    it: 'a service account',
    source: { serviceAccounts: ['shop/orders'] },
    orders: [true, true],
    foreign: [false, false],
    odd: [false, false],
  },
  {
    it: 'the same service account of another namespace',
    source: { serviceAccounts: ['bank/orders'] },
    orders: [false, false],
    foreign: [false, false],
    odd: [false, false],
  },
  {
    it: 'not this service account',
    source: { notServiceAccounts: ['shop/orders'] },
    orders: [false, false],
    foreign: [false, true],
    odd: [false, true],
  },
  {
    it: 'a trust domain',
    source: { trustDomains: ['partner.*'] },
    orders: [false, false],
    foreign: [true, true],
    odd: [false, false],
  },
  {
    it: 'our own trust domain',
    source: { trustDomains: ['cluster.local'] },
    orders: [true, true],
    foreign: [false, false],
    odd: [true, true],
  },
  {
    it: 'not a trust domain',
    source: { notTrustDomains: ['partner.example'] },
    orders: [true, true],
    foreign: [false, false],
    odd: [false, true],
  },
  {
    it: 'not another trust domain',
    source: { notTrustDomains: ['partner.two'] },
    orders: [true, true],
    foreign: [false, true],
    odd: [false, true],
  },
  {
    it: 'a named foreign principal that is not in a namespace of ours',
    source: { principals: ['partner.example/*'], notNamespaces: ['shop'] },
    orders: [false, false],
    foreign: [true, true],
    odd: [false, false],
  },
  {
    it: 'fields that do not all match',
    source: { namespaces: ['shop'], serviceAccounts: ['shop/web'] },
    orders: [false, false],
    foreign: [false, false],
    odd: [false, false],
  },
]

for (const { it, source, ...callers } of MATCHES)
  t.test(`a source that names ${it} matches whom it should, and no plaintext under ALLOW`, async t => {
    const allows = (identity?: string) => decide([policy('ALLOW', from(source))], identity).allow
    // The default would not hold for foreigners.
    const denies = (identity?: string) =>
      !decide([policy('DENY', from(source)), policy('ALLOW', {})], identity).allow
    t.same([allows(ORDERS), denies(ORDERS)], callers.orders, 'own workload')
    t.same([allows(FOREIGN), denies(FOREIGN)], callers.foreign, 'foreign workload')
    t.same([allows(ODD), denies(ODD)], callers.odd, 'own identity that is no workload')
    t.same([allows(undefined), denies(undefined)], [false, true], 'plaintext')
    t.same([allows('spiffe://x'), denies('spiffe://x')], [false, true], 'no SPIFFE ID')
  })

t.test('ports narrow a rule, and are known of plaintext too', async t => {
  const allow = policy('ALLOW', { to: [{ ports: [80, 81], notPorts: [81] }, { notPorts: [80, 81, 82] }] })
  const allowed = [80, 81, 82, 83].filter(port => decide([allow], undefined, port).allow)
  t.same(allowed, [80, 83])
  const deny = policy('DENY', { from: [{ namespaces: ['shop'] }], to: [{ ports: [80] }] })
  t.same(
    [80, 81].map(port => decide([deny], ORDERS, port).allow),
    [false, true],
  )
})

const GET: HttpRequest = { method: 'GET', host: 'orders.shop:8080', path: '/orders/7' }

/** Whether an operation matches a request, and whether its opposite does. */
const OPERATIONS: readonly {
  readonly it: string
  readonly operation: OperationMatch
  readonly http: Partial<HttpRequest>
  readonly matches: boolean
}[] = [
  { it: 'its method', operation: { methods: ['GET', 'HEAD'] }, http: {}, matches: true },
  { it: 'another method', operation: { methods: ['POST'] }, http: {}, matches: false },
  {
    it: 'a method in other letters',
    operation: { methods: ['GET'] },
    http: { method: 'get' },
    matches: false,
  },
  { it: 'any method', operation: { methods: ['*'] }, http: { method: 'PURGE' }, matches: true },
  { it: 'all methods but its own', operation: { notMethods: ['GET'] }, http: {}, matches: false },
  { it: 'all methods but another', operation: { notMethods: ['POST'] }, http: {}, matches: true },
  { it: 'its path', operation: { paths: ['/orders/7'] }, http: {}, matches: true },
  { it: 'its path in other letters', operation: { paths: ['/Orders/7'] }, http: {}, matches: false },
  { it: 'the beginning of its path', operation: { paths: ['/orders/*'] }, http: {}, matches: true },
  { it: 'the path above', operation: { paths: ['/orders/*'] }, http: { path: '/orders' }, matches: false },
  { it: 'the end of its path', operation: { paths: ['*/7'] }, http: {}, matches: true },
  { it: 'any path', operation: { paths: ['*'] }, http: {}, matches: true },
  {
    it: 'any path, asked of the server itself',
    operation: { paths: ['*'] },
    http: { path: '*' },
    matches: true,
  },
  {
    it: 'paths below the root, asked of the server itself',
    operation: { paths: ['/*'] },
    http: { path: '*' },
    matches: false,
  },
  { it: 'all paths but its own', operation: { notPaths: ['/admin', '/orders/*'] }, http: {}, matches: false },
  {
    it: 'a path that is in both lists',
    operation: { paths: ['/*'], notPaths: ['/orders/7'] },
    http: {},
    matches: false,
  },
  { it: 'its host', operation: { hosts: ['orders.shop'] }, http: {}, matches: true },
  {
    it: 'its host in other letters',
    operation: { hosts: ['Orders.Shop'] },
    http: { host: 'ORDERS.shop' },
    matches: true,
  },
  { it: 'its host with its port', operation: { hosts: ['orders.shop:8080'] }, http: {}, matches: true },
  { it: 'its host with another port', operation: { hosts: ['orders.shop:80'] }, http: {}, matches: false },
  {
    it: 'its host with the default port',
    operation: { hosts: ['orders.shop:80'] },
    http: { host: 'orders.shop' },
    matches: true,
  },
  {
    it: 'its host with a port in other digits',
    operation: { hosts: ['orders.shop:8080'] },
    http: { host: 'orders.shop:08080' },
    matches: true,
  },
  {
    it: 'its host with an empty port',
    operation: { hosts: ['orders.shop:80'] },
    http: { host: 'orders.shop:' },
    matches: true,
  },
  {
    it: 'its fully qualified host',
    operation: { hosts: ['orders.shop'] },
    http: { host: 'orders.shop.' },
    matches: true,
  },
  {
    it: 'its fully qualified host and port',
    operation: { hosts: ['orders.shop:8080'] },
    http: { host: 'orders.shop.:8080' },
    matches: true,
  },
  { it: 'hosts of its domain', operation: { hosts: ['*.shop'] }, http: {}, matches: true },
  { it: 'hosts of its domain with its port', operation: { hosts: ['*.shop:8080'] }, http: {}, matches: true },
  { it: 'hosts with its port', operation: { hosts: ['*:8080'] }, http: {}, matches: true },
  { it: 'hosts that begin as its own', operation: { hosts: ['orders.*'] }, http: {}, matches: true },
  { it: 'any host', operation: { hosts: ['*'] }, http: {}, matches: true },
  { it: 'the domain alone', operation: { hosts: ['shop'] }, http: {}, matches: false },
  { it: 'an IPv6 address', operation: { hosts: ['[::1]'] }, http: { host: '[::1]:8080' }, matches: true },
  {
    it: 'an IPv6 address without a port',
    operation: { hosts: ['[::1]:80'] },
    http: { host: '[::1]' },
    matches: true,
  },
  { it: 'all hosts but its own', operation: { notHosts: ['orders.shop'] }, http: {}, matches: false },
  {
    it: 'fields that all match',
    operation: { ports: [8080], methods: ['GET'], paths: ['/orders/*'], hosts: ['*'] },
    http: {},
    matches: true,
  },
  {
    it: 'fields that do not all match',
    operation: { methods: ['GET'], paths: ['/admin'] },
    http: {},
    matches: false,
  },
  { it: 'another port', operation: { ports: [81], methods: ['GET'] }, http: {}, matches: false },
]

for (const { it, operation, http, matches } of OPERATIONS)
  t.test(`an operation that names ${it} matches as written, under ALLOW and DENY`, async t => {
    const request = { ...GET, ...http }
    const decided = (action: 'ALLOW' | 'DENY') =>
      decide([policy(action, { to: [operation] })], ORDERS, 8080, {}, request)
    t.equal(decided('ALLOW').allow, matches)
    t.equal(decided('DENY').allow, !matches)
  })

const HTTP_FIELDS = ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'] as const

for (const field of HTTP_FIELDS)
  t.test(`${field} of opaque bytes are not known, which never helps the caller`, async t => {
    const rule = { to: [{ ports: [8080], [field]: ['/x'] }] }
    t.match(decide([policy('ALLOW', rule)], ORDERS), { allow: false, code: 'PSTN_POLICY_DENIED' })
    t.match(decide([policy('DENY', rule)], ORDERS), { allow: false, rule: 0 })
    t.equal(decide([policy('DENY', rule)], ORDERS, 81).allow, true, 'its other fields still narrow it')
    const everybodyElse = policy('DENY', { ...rule, from: [{ notNamespaces: ['shop'] }] })
    t.equal(decide([everybodyElse], ORDERS).allow, true)
  })

t.test('what a request does not say is not known either', async t => {
  const silent: HttpRequest = { method: 'GET', host: '', path: '/' }
  for (const field of ['hosts', 'notHosts'] as const) {
    const rule = { to: [{ [field]: ['orders.shop'] }] }
    t.equal(decide([policy('ALLOW', rule)], ORDERS, 8080, {}, silent).allow, false, field)
    t.equal(decide([policy('DENY', rule)], ORDERS, 8080, {}, silent).allow, false, field)
  }
})

// What an injector newer than this sidecar might send.
const newer = (action: string, rule: object, features: string[] = ['l4']): AuthorizationPolicy =>
  ({ ...policy('DENY', rule), name: 'shop/newer', action, features }) as AuthorizationPolicy

t.test('an unknown feature refuses exactly the ports that the policy covers', async t => {
  const deny = newer('DENY', { from: [{ namespaces: ['bank'] }], to: [{ ports: [80], hosts: ['a'] }] }, [
    'l7',
  ])
  t.match(decide([deny], ORDERS, 80), { allow: false, code: 'PSTN_POLICY_UNSUPPORTED', policy: 'shop/newer' })
  t.equal(decide([deny], ORDERS, 81).allow, true)
})

const COVERS_ALL: readonly (readonly [string, AuthorizationPolicy])[] = [
  ['an unlisted field of a rule', newer('DENY', { unless: [{ key: 'x' }] })],
  ['a condition that nobody knows', newer('DENY', { when: [{ key: 'x', values: ['y'] }] })],
  ['a condition that asks nothing', newer('DENY', { when: [{ key: 'source.ip' }] })],
  ['an empty when', newer('DENY', { when: [] })],
  ['an unlisted field of a source', newer('DENY', { from: [{ remoteIpBlocks: ['10.0.0.0/8'] }] })],
  ['an unlisted field of an operation', newer('DENY', { to: [{ grpcMethods: ['GET'] }] })],
  ['a feature that may widen a pattern', newer('DENY', { to: [{ paths: ['/a/{*}'] }] }, ['templates'])],
  ['an unknown action', newer('AUDIT', {})],
  ['an empty list', newer('DENY', { from: [{ principals: [] }] })],
  ['an empty list of ports', newer('DENY', { to: [{ ports: [], hosts: ['x'] }] })],
  ['an empty from', newer('DENY', { from: [] })],
  ['an empty source', newer('DENY', { from: [{}] })],
  ['a list that is none', newer('DENY', { from: [{ principals: 'x' }] })],
]

for (const [it, unknown] of COVERS_ALL)
  t.test(`a policy with ${it} refuses everything, even what another policy allows`, async t => {
    const expected = { allow: false, code: 'PSTN_POLICY_UNSUPPORTED' }
    t.match(decide([unknown, policy('ALLOW', {})], ORDERS), expected)
    t.match(decide([unknown], undefined), expected)
  })

t.test('an ALLOW policy that is not understood allows nothing and leaves the others in force', async t => {
  const unknown = newer('ALLOW', { to: [{ ports: [80], paths: ['/'] }] }, ['l4', 'later'])
  t.match(decide([unknown], ORDERS, 80), { allow: false, code: 'PSTN_POLICY_UNSUPPORTED', reason: /later/ })
  t.match(decide([unknown], ORDERS, 81), { allow: false, code: 'PSTN_POLICY_DENIED' })
  t.match(decide([unknown, policy('ALLOW', {})], ORDERS, 80), { allow: true, policy: 'shop/allow' })
})

t.test('the mode is per port, and strict where it is not understood', async t => {
  const ports = { 80: 'strict', 81: 'permissive', 82: 'disable' } as unknown as PolicySet['mode']['ports']
  const compiled = compile(
    { mode: { inbound: 'permissive', ports }, policies: [], defaultAction: 'allow' },
    { trustDomain: TRUST_DOMAIN },
  )
  t.same(
    [80, 81, 82, 83].map(port => inboundMode(compiled, port)),
    ['strict', 'permissive', 'strict', 'permissive'],
  )
})

t.test('more identities than are remembered are still told apart', async t => {
  const compiled = compile(
    {
      mode: { inbound: 'strict', ports: {} },
      policies: [policy('ALLOW', from({ serviceAccounts: ['shop/a7'] }))],
      defaultAction: 'allow',
    },
    { trustDomain: TRUST_DOMAIN },
  )
  const allowed: number[] = []
  for (let round = 0; round < 2; round += 1)
    for (let n = 0; n < 1500; n += 1) {
      const caller = { address: '::1', identity: `spiffe://cluster.local/ns/shop/sa/a${n}` }
      if (evaluate(compiled, { caller, port: 80 }).allow) allowed.push(n)
    }
  t.same(allowed, [7, 7])
})

const SOME = policy('ALLOW', { ...from({ namespaces: ['shop'] }), to: [{ methods: ['GET'] }] })
const STRANGER = 'spiffe://cluster.local/ns/other/sa/a'
const BEST: readonly (readonly [it: string, of: AuthorizationPolicy, caller: string, allow: boolean])[] = [
  ['an ALLOW rule names some requests of this caller', SOME, ORDERS, true],
  ['no ALLOW rule names the caller', SOME, STRANGER, false],
  ['no ALLOW rule names the port', policy('ALLOW', { to: [{ ports: [9090] }] }), ORDERS, false],
  ['a DENY rule forbids some requests', policy('DENY', { to: [{ methods: ['GET'] }] }), ORDERS, true],
  ['a DENY rule forbids all but some', policy('DENY', { to: [{ notPaths: ['/'] }] }), ORDERS, true],
  ['a DENY rule forbids the port', policy('DENY', { to: [{ ports: [8080] }] }), ORDERS, false],
  ['a DENY rule forbids the caller', policy('DENY', from({ namespaces: ['shop'] })), ORDERS, false],
  ['a DENY rule forbids others', policy('DENY', from({ namespaces: ['shop'] })), STRANGER, true],
  ['this version cannot know what is allowed', { ...SOME, features: ['of-tomorrow'] }, ORDERS, false],
]
for (const [it, of, identity, allow] of BEST)
  t.test(`a connection of requests is ${allow ? 'let in' : 'refused'} where ${it}`, async t => {
    const set: PolicySet = {
      mode: { inbound: 'permissive', ports: {} },
      policies: [of],
      defaultAction: 'allow',
    }
    const connection = { caller: { address: '10.0.0.7', identity }, port: 8080 }
    t.equal(evaluateAnyRequest(compile(set, { trustDomain: TRUST_DOMAIN }), connection).allow, allow)
  })

t.test(
  'what decides nothing is recorded: an AUDIT rule that matches, a dry run that would decide otherwise',
  async t => {
    const watched = (policies: readonly AuthorizationPolicy[], watching: readonly AuthorizationPolicy[]) => {
      const mode = { inbound: 'permissive', ports: {} } as const
      const set: PolicySet = { mode, policies, watched: watching, defaultAction: 'allow' }
      const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
      return (identity?: string) => {
        const request = { caller: { address: '10.0.0.7', ...(identity && { identity }) }, port: 8080 }
        const decision = evaluate(compiled, request)
        t.strictSame(decision.allow, decide(policies, identity).allow, 'nothing is decided by it')
        return observe(compiled, request, decision)
      }
    }
    const audit = {
      ...policy('ALLOW', from({ namespaces: ['shop'] })),
      name: 'shop/audit',
      action: 'AUDIT',
    } as const
    const recorded = watched([], [audit])
    t.strictSame(recorded(ORDERS), { audit: { policy: 'shop/audit', rule: 0 } })
    t.equal(recorded('spiffe://cluster.local/ns/bank/sa/x'), undefined)
    t.ok(recorded(undefined), 'it may have been a plaintext caller of that namespace')
    t.equal(recorded(FOREIGN), undefined, 'the default refuses it, and no rule names it')

    const allow = policy('ALLOW', from({ serviceAccounts: ['shop/web'] }))
    t.match(watched([], [allow])(ORDERS), { dryRun: { allow: false, policy: 'shop/allow' } })
    t.match(watched([policy('DENY', {})], [allow])('spiffe://cluster.local/ns/shop/sa/web'), undefined)
    const opened = watched(
      [{ ...allow, name: 'shop/other' }],
      [policy('ALLOW', from({ namespaces: ['shop'] }))],
    )
    t.match(opened(ORDERS), { dryRun: { allow: true, policy: 'shop/allow', rule: 0 } })
    t.match(watched([], [policy('DENY', {})])(undefined), { dryRun: { allow: false, policy: 'shop/deny' } })
    const later = { ...policy('DENY', {}), features: ['later'] }
    t.match(watched([], [later])(ORDERS), { dryRun: { code: 'PSTN_POLICY_UNSUPPORTED' } })
  },
)

// Small alphabets on purpose: policies and callers must meet often for a wrong decision to show.
import fc from 'fast-check'
import t from 'tap'
import { compile } from '../../../shared/policy/compile.ts'
import { evaluate, evaluateAnyRequest } from '../../../shared/policy/evaluate.ts'
import type {
  Condition,
  OperationMatch,
  PolicyRequest,
  PolicySet,
  SourceMatch,
} from '../../../shared/policy/model.ts'
import { reference } from './reference.ts'

const TRUST_DOMAIN = 'td.one'
const domain = fc.constantFrom(TRUST_DOMAIN, 'td.two')
const namespace = fc.constantFrom('a', 'ab', 'b')
const account = fc.constantFrom('x', 'xa', 'y')

const workload = fc.tuple(domain, namespace, account).map(([td, ns, sa]) => `${td}/ns/${ns}/sa/${sa}`)
const principal = fc.oneof(
  { weight: 9, arbitrary: workload },
  domain.map(td => `${td}/other/path`),
)

const cut = (value: fc.Arbitrary<string>) =>
  fc.tuple(value, fc.nat(), fc.boolean()).map(([text, at, head]) => {
    const index = at % (text.length + 1)
    return head ? `${text.slice(0, index)}*` : `*${text.slice(index)}`
  })
const pattern = (value: fc.Arbitrary<string>) =>
  fc.oneof({ weight: 3, arbitrary: value }, { weight: 2, arbitrary: cut(value) })
const list = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: 1, maxLength: 3 })

const serviceAccount = fc.tuple(namespace, account).map(([ns, sa]) => `${ns}/${sa}`)
const optional = { requiredKeys: [] as never[] }
const notEmpty = (value: object) => Object.keys(value).length > 0

const address = fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.1.1', '192.168.0.1')
const block = fc.constantFrom('10.0.0.1/32', '10.0.0.0/31', '10.0.0.0/24', '10.0.0.0/8', '0.0.0.0/0')

const user = fc.constantFrom('https://i/a', 'https://i/b', 'https://j/a')

const source: fc.Arbitrary<SourceMatch> = fc
  .record(
    {
      principals: list(pattern(principal)),
      notPrincipals: list(pattern(principal)),
      namespaces: list(pattern(namespace)),
      notNamespaces: list(pattern(namespace)),
      serviceAccounts: list(pattern(serviceAccount)),
      notServiceAccounts: list(pattern(serviceAccount)),
      trustDomains: list(pattern(domain)),
      notTrustDomains: list(pattern(domain)),
      ipBlocks: list(block),
      notIpBlocks: list(block),
      requestPrincipals: list(pattern(user)),
      notRequestPrincipals: list(pattern(user)),
    },
    optional,
  )
  // Few fields at once, or nothing ever matches.
  .map(all => Object.fromEntries(Object.entries(all).slice(-4)))
  .filter(notEmpty)

const port = fc.constantFrom(80, 81, 443)
const method = fc.constantFrom('GET', 'GETX', 'POST')
const path = fc.constantFrom('/', '/a', '/a/b', '/a/b.js', '/a/b/c')
const pathPattern = fc.oneof(
  { weight: 2, arbitrary: pattern(path) },
  fc.constantFrom('/{*}', '/{**}', '/a/{*}', '/{*}/b', '/a/{**}', '/{**}/b', '/{*}/{**}', '/{*}/{**}/c'),
)
const name = fc.constantFrom('a', 'a.b', 'b.b')
const withPort = fc.tuple(name, fc.constantFrom(80, 8080)).map(parts => parts.join(':'))
const hostPattern = fc.oneof(
  pattern(name),
  withPort,
  fc.constantFrom('*:80', '*.b:8080', '*b:80', 'A.B', 'B.b:80'),
)
const operation: fc.Arbitrary<OperationMatch> = fc
  .record(
    {
      ports: list(port),
      notPorts: list(port),
      methods: list(pattern(method)),
      notMethods: list(pattern(method)),
      paths: list(pathPattern),
      notPaths: list(pathPattern),
      hosts: list(hostPattern),
      notHosts: list(hostPattern),
    },
    optional,
  )
  // Few fields at once, or nothing ever matches.
  .map(all => Object.fromEntries(Object.entries(all).slice(0, 3)))
  .filter(notEmpty)

const headerValue = fc.constantFrom('a', 'ab', 'b')
const conditionOf = (key: string, value: fc.Arbitrary<string>): fc.Arbitrary<Condition> =>
  fc
    .record({ values: list(value), notValues: list(value) }, optional)
    .filter(notEmpty)
    .map(lists => ({ key, ...lists }))
const condition: fc.Arbitrary<Condition> = fc.oneof(
  conditionOf('source.principal', pattern(principal)),
  conditionOf('source.namespace', pattern(namespace)),
  conditionOf('source.serviceAccount', pattern(serviceAccount)),
  conditionOf('source.trustDomain', pattern(domain)),
  conditionOf('source.ip', block),
  conditionOf('destination.port', port.map(String)),
  conditionOf('destination.ip', block),
  conditionOf('request.headers[x-a]', pattern(headerValue)),
  conditionOf('request.headers[x-b]', pattern(headerValue)),
)

const claimed = fc.constantFrom('a', 'b', 'c', 'true')
const compared = fc.constantFrom('request.auth.claims[a]', 'request.auth.audiences', 'request.auth.principal')
const comparison: fc.Arbitrary<Condition> = fc
  .record({ equals: compared, notEquals: compared }, optional)
  .filter(notEmpty)
  .chain(sides => fc.constantFrom('request.path[id]', 'request.path[x]').map(key => ({ key, ...sides })))
const named = fc.constantFrom('/{id}', '/a/{id}', '/{id}/{**}', '/{x}/{id}', '/{**}', '/a/b', '/*')
/** Some operations forget the name: what a newer injector sends is not what the reader lets through. */
const owned = fc
  .record({ ports: list(port), methods: list(pattern(method)), notPaths: list(pathPattern) }, optional)
  .chain(rest => list(named).map(paths => ({ ...rest, paths })))
const userCondition: fc.Arbitrary<Condition> = fc.oneof(
  conditionOf('request.auth.principal', pattern(user)),
  conditionOf('request.auth.audiences', pattern(claimed)),
  conditionOf('request.auth.presenter', pattern(claimed)),
  conditionOf('request.auth.claims[a]', pattern(claimed)),
)

const rule = fc.oneof(
  {
    weight: 1,
    arbitrary: fc.record({
      to: list(owned),
      when: fc
        .tuple(comparison, fc.array(fc.oneof(comparison, userCondition), { maxLength: 1 }))
        .map(all => all.flat()),
    }),
  },
  fc.record({ to: list(operation), when: list(userCondition) }, { requiredKeys: ['when'] }),
  { weight: 3, arbitrary: fc.record({ from: list(source), to: list(operation) }, optional) },
  fc.record({ from: list(source), to: list(operation), when: list(condition) }, optional),
)

const policySet: fc.Arbitrary<PolicySet> = fc.record({
  mode: fc.constant({ inbound: 'permissive' as const, ports: {} }),
  defaultAction: fc.constantFrom('allow' as const, 'deny' as const),
  policies: fc.array(
    fc.record({
      kind: fc.constant('AuthorizationPolicy' as const),
      name: fc.constantFrom('a/one', 'a/two'),
      action: fc.constantFrom('ALLOW' as const, 'DENY' as const),
      features: fc.constant(['l4']),
      rules: fc.array(rule, { maxLength: 3 }),
    }),
    { maxLength: 4 },
  ),
})

const claim = fc.oneof(
  claimed,
  fc.boolean(),
  fc.array(claimed, { maxLength: 2 }),
  fc.constantFrom(7, {}, [{}], ''),
)
const endUser = fc.record({
  principal: fc.oneof({ weight: 5, arbitrary: user }, fc.constant(undefined)),
  claims: fc.record({ a: claim, aud: claim, azp: claim }, optional),
})
const header = fc.oneof({ weight: 4, arbitrary: headerValue }, fc.constantFrom(null, ''))
const headers = fc.record({ 'x-a': header, 'x-b': header }, optional).map(all => new Map(Object.entries(all)))

const request: fc.Arbitrary<PolicyRequest> = fc.record(
  {
    caller: fc.record(
      { identity: principal.map(text => `spiffe://${text}`), address },
      { requiredKeys: ['address'] },
    ),
    port,
    address,
    http: fc.option(
      fc.record(
        {
          headers,
          user: endUser,
          method,
          path: fc.oneof({ weight: 9, arbitrary: path }, fc.constant('*')),
          host: fc.oneof(name, withPort, fc.constantFrom('', 'A.B', 'a.b.', 'a.b.:8080', 'b.b:', 'a.b:080')),
        },
        { requiredKeys: ['method', 'path', 'host'] },
      ),
      { nil: undefined },
    ),
  },
  { requiredKeys: ['caller', 'port', 'http'] },
)

const RUNS = Number(process.env.POSTERN_PROPERTY_RUNS ?? 20_000)

t.test(
  'the compiled policy decides as the semantics table does, and names the rule that decided',
  async t => {
    const seen = { allowed: 0, byRule: 0, opaque: 0 }
    fc.assert(
      fc.property(policySet, fc.array(request, { minLength: 1, maxLength: 4 }), (set, requests) => {
        const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
        for (const asked of requests) {
          const decision = evaluate(compiled, asked)
          const { allow, by } = reference(set, TRUST_DOMAIN, asked)
          if (decision.allow !== allow) return false
          if (by ? decision.policy !== by[0] || decision.rule !== by[1] : decision.rule !== undefined)
            return false
          seen.allowed += Number(allow)
          seen.byRule += Number(by !== undefined && allow)
          seen.opaque += Number(asked.http === undefined && allow)
        }
        return true
      }),
      { numRuns: RUNS },
    )
    for (const [what, count] of Object.entries(seen))
      t.ok(count > RUNS / 40, `control: ${what} ${count} times, otherwise nothing was compared`)
  },
)

t.test('what opaque bytes are allowed, every request is allowed: what is not known never helps', async () => {
  fc.assert(
    fc.property(policySet, request, (set, asked) => {
      const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
      const opaque = evaluate(compiled, { ...asked, http: undefined }).allow
      return !opaque || evaluate(compiled, asked).allow
    }),
    { numRuns: RUNS / 10 },
  )
})

t.test('what no request could pass, none does, and a policy without HTTP fields decides alike', async t => {
  const seen = { refused: 0, open: 0 }
  fc.assert(
    fc.property(policySet, request, (set, asked) => {
      const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
      const connection = { ...asked, http: undefined }
      const best = evaluateAnyRequest(compiled, connection)
      const opaque = evaluate(compiled, connection)
      if (!best.allow && (opaque.allow || evaluate(compiled, asked).allow)) return false
      seen.refused += Number(!best.allow)
      seen.open += Number(best.allow && !opaque.allow)
      const fields = set.policies.flatMap(({ rules }) => rules.flatMap(({ to = [] }) => to))
      const conditions = set.policies.flatMap(({ rules }) => rules.flatMap(({ when = [] }) => when))
      const sources = set.policies.flatMap(({ rules }) => rules.flatMap(({ from = [] }) => from))
      const hasHttp =
        sources.some(entry => entry.requestPrincipals ?? entry.notRequestPrincipals) ||
        conditions.some(({ key }) => key.startsWith('request.')) ||
        fields.some(entry => Object.keys(entry).some(field => !/ports$/i.test(field)))
      return hasHttp || best.allow === opaque.allow
    }),
    { numRuns: RUNS },
  )
  for (const [what, count] of Object.entries(seen)) t.ok(count > RUNS / 40, `control: ${what} ${count} times`)
})

t.test('a plaintext caller is never allowed what a rule with an identity gives', async () => {
  fc.assert(
    fc.property(policySet, port, (set, asked) => {
      const identified = set.policies.filter(({ rules }) =>
        rules.every(({ from }) =>
          from?.every(entry =>
            Object.keys(entry).some(field => !/ipBlocks$|requestPrincipals$/i.test(field)),
          ),
        ),
      )
      const allowing = identified.filter(({ action }) => action === 'ALLOW')
      if (allowing.length === 0) return true
      const compiled = compile({ ...set, policies: identified }, { trustDomain: TRUST_DOMAIN })
      return !evaluate(compiled, { caller: { address: '10.0.0.1' }, port: asked }).allow
    }),
    { numRuns: RUNS / 10 },
  )
})

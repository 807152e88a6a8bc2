// Small alphabets on purpose: policies and callers must meet often for a wrong decision to show.
import fc from 'fast-check'
import type {
  Condition,
  OperationMatch,
  PolicyRequest,
  PolicySet,
  SourceMatch,
} from '../../../shared/policy/model.ts'

export const TRUST_DOMAIN = 'td.one'
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

export const port = fc.constantFrom(80, 81, 443)
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

export const rule = fc.oneof(
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

export const policySet: fc.Arbitrary<PolicySet> = fc.record({
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

export const request: fc.Arbitrary<PolicyRequest> = fc.record(
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

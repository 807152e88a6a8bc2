// Whatever stands in a ConfigMap, reading it ends with documents or with problems in their places; and what is read as
// valid is understood by the evaluator of the same build.
import fc from 'fast-check'
import t from 'tap'
import { stringify } from 'yaml'
import { bind } from '../../../shared/policy/bind.ts'
import { compile } from '../../../shared/policy/compile.ts'
import { evaluate } from '../../../shared/policy/evaluate.ts'
import { parsePolicyConfigMap } from '../../../shared/policy/parse.ts'

const ORIGIN = { namespace: 'shop', systemNamespace: 'postern-system' }
const TRUST_DOMAIN = 'cluster.local'

/** Valid documents most of the time, with something odd in a random place now and then. */
const odd = fc.oneof(fc.jsonValue(), fc.string(), fc.constantFrom(null, [], {}, '', '*', 0))
const mostly = <T>(value: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 60, arbitrary: value as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: odd })
const fields = (model: Record<string, fc.Arbitrary<unknown>>, requiredKeys: string[] = []) =>
  mostly(fc.record(model, { requiredKeys }))
const list = (value: fc.Arbitrary<unknown>) => mostly(fc.array(value, { minLength: 1, maxLength: 2 }))

const principal = mostly(
  fc.constantFrom(
    'cluster.local/ns/shop/sa/web',
    'spiffe://other/ns/a/sa/b',
    '*',
    'cluster.local/*',
    '*/sa/web',
  ),
)
const namespace = mostly(fc.constantFrom('shop', 'test-*', '*'))
const trustDomain = mostly(fc.constantFrom('cluster.local', 'partner.*', '*'))
const account = mostly(fc.constantFrom('web', 'shop/web'))
const port = mostly(fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom('80', '8080')))
const source = fields({
  principals: list(principal),
  notPrincipals: list(principal),
  namespaces: list(namespace),
  notNamespaces: list(namespace),
  serviceAccounts: list(account),
  notServiceAccounts: list(account),
  trustDomains: list(trustDomain),
  notTrustDomains: list(trustDomain),
})
const method = mostly(fc.constantFrom('GET', 'P*', '*'))
const path = mostly(fc.constantFrom('/a', '/a/*', '*.js', '*', '/caf%C3%A9'))
const host = mostly(fc.constantFrom('orders', 'Orders.shop:80', '*.shop', '*:8080', '[::1]'))
const operation = fields({
  ports: list(port),
  notPorts: list(port),
  methods: list(method),
  notPaths: list(path),
  paths: list(path),
  hosts: list(host),
  notHosts: list(host),
})
const rule = fields({
  from: list(fields({ source }, ['source'])),
  to: list(fields({ operation }, ['operation'])),
})
const document = fields(
  {
    apiVersion: mostly(fc.constant('policy.postern.dev/v1')),
    kind: mostly(fc.constant('AuthorizationPolicy')),
    metadata: fields({ name: mostly(fc.constantFrom('a', 'b')) }, ['name']),
    spec: fields({
      selector: fields({ matchLabels: fields({ app: mostly(fc.constant('orders')) }, ['app']) }, [
        'matchLabels',
      ]),
      action: mostly(fc.constantFrom('ALLOW', 'DENY')),
      rules: list(rule),
    }),
  },
  ['apiVersion', 'kind', 'metadata', 'spec'],
)

const RUNS = Number(process.env.POSTERN_PROPERTY_RUNS ?? 5_000)

const read = (text: string) => parsePolicyConfigMap({ data: { 'policy.yaml': text } }, ORIGIN)

t.test('any text is read to documents or to problems inside the text', async () => {
  const line = fc.constantFrom(
    'kind: AuthorizationPolicy',
    'spec:',
    '  rules:',
    '  - {}',
    '---',
    '&a [*a]',
    '<<: *b',
    '!!set {a}',
    '? [a]',
    '%YAML 1.1',
    '"\\q"',
    '\t- x',
  )
  const text = fc.oneof(
    fc.string({ maxLength: 200 }),
    fc.array(line, { maxLength: 8 }).map(lines => lines.join('\n')),
  )
  fc.assert(
    fc.property(text, yaml => {
      const parsed = read(yaml)
      if (parsed.kind === 'valid') return true
      const last = yaml.split('\n').length
      return (
        parsed.problems.length > 0 &&
        parsed.problems.every(({ line: at, reason }) => at >= 1 && at <= last && reason !== '')
      )
    }),
    { numRuns: RUNS },
  )
})

t.test('a valid document is understood by the evaluator, and an odd one is refused in its place', async t => {
  const seen = { valid: 0, invalid: 0 }
  fc.assert(
    fc.property(document, value => {
      const parsed = read(stringify(value))
      seen[parsed.kind] += 1
      if (parsed.kind === 'invalid') return parsed.problems.every(({ hint }) => hint !== '')
      const set = bind(parsed.documents, { namespace: 'shop', labels: { app: 'orders' } }, ORIGIN)
      const compiled = compile(set, { trustDomain: TRUST_DOMAIN })
      const decision = evaluate(compiled, {
        caller: { address: '10.0.0.1', identity: 'spiffe://cluster.local/ns/shop/sa/web' },
        port: 80,
      })
      return decision.allow || decision.code === 'PSTN_POLICY_DENIED'
    }),
    { numRuns: RUNS },
  )
  t.ok(seen.valid > RUNS / 10 && seen.invalid > RUNS / 10, JSON.stringify(seen))
})

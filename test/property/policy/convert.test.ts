// A policy that came from Istio lets in nobody whom Istio would have kept out. Istio's meaning is written here as plainly as can
// be: what a request does not have matches no value, and every `not…`.
import fc from 'fast-check'
import t from 'tap'
import { convert } from '../../../cli/policy/convert.ts'
import { bind } from '../../../shared/policy/bind.ts'
import { compile } from '../../../shared/policy/compile.ts'
import { evaluate } from '../../../shared/policy/evaluate.ts'
import { parsePolicyConfigMap } from '../../../shared/policy/parse.ts'

const RUNS = Number(process.env.POSTERN_PROPERTY_RUNS ?? 20_000) / 20

type Lists = { readonly [field: string]: readonly string[] }
type Rule = {
  readonly from?: readonly { readonly source: Lists }[]
  readonly to?: readonly { readonly operation: Lists }[]
  readonly when?: readonly {
    readonly key: string
    readonly values?: readonly string[]
    readonly notValues?: readonly string[]
  }[]
}
type Policy = { readonly action: 'ALLOW' | 'DENY'; readonly rules: readonly Rule[] }
type Request = { readonly [attribute: string]: string | undefined }

const optional = { requiredKeys: [] as never[] }
const list = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: 1, maxLength: 2 })
const few = (all: object, from: number) => Object.fromEntries(Object.entries(all).slice(from))
const notEmpty = (value: object) => Object.keys(value).length > 0
const both = (lists: { readonly [field: string]: fc.Arbitrary<string> }, slice: number) =>
  fc
    .record(
      Object.fromEntries(
        Object.entries(lists).flatMap(([name, value]) => [
          [name, list(value)],
          [`not${name.charAt(0).toUpperCase()}${name.slice(1)}`, list(value)],
        ]),
      ),
      optional,
    )
    .map(all => few(all, slice))
    .filter(notEmpty)

const source = both(
  {
    principals: fc.constantFrom(
      'td.one/ns/a/sa/x',
      '*/ns/a/sa/x',
      'td.one/ns/a/*',
      '*/sa/y',
      '*',
      'td.two/*',
    ),
    ipBlocks: fc.constantFrom('10.0.0.0/24', '10.0.0.1'),
    namespaces: fc.constantFrom('a', 'b', 'a*', '*b', '*'),
    serviceAccounts: fc.constantFrom('x', 'b/y'),
  },
  -2,
)
const operation = both(
  {
    paths: fc.constantFrom('/a', '/a/*', '*b', '/{*}/b', '/a/{**}', '*'),
    methods: fc.constantFrom('GET', 'P*', '*T', '*'),
    ports: fc.constantFrom('80', '81'),
    hosts: fc.constantFrom('a', '*.a', 'a*', 'a:8080', '*:8080', '*', 'b.a', '*0', 'A'),
  },
  -2,
)
const condition = fc
  .tuple(
    fc.constantFrom(
      ['request.headers[x-a]', ['a', 'a*', '*']] as const,
      ['source.namespace', ['a', 'b', '*']] as const,
      ['source.principal', ['td.one/ns/a/sa/x', '*/sa/y']] as const,
      ['source.ip', ['10.0.0.0/24', '10.0.0.1']] as const,
      ['destination.port', ['80', '81']] as const,
    ),
    fc.constantFrom('values' as const, 'notValues' as const),
    fc.nat(),
  )
  .map(([[key, values], side, index]) => ({ key, [side]: [values[index % values.length] ?? ''] }))
const rule: fc.Arbitrary<Rule> = fc.record(
  {
    from: list(source.map(lists => ({ source: lists }))),
    to: list(operation.map(lists => ({ operation: lists }))),
    when: list(condition),
  },
  optional,
)
const policies: fc.Arbitrary<readonly Policy[]> = fc.array(
  fc.record({
    action: fc.constantFrom('ALLOW' as const, 'DENY' as const),
    rules: fc.array(rule, { maxLength: 2 }),
  }),
  { minLength: 1, maxLength: 3 },
)

const request: fc.Arbitrary<Request> = fc.record({
  principal: fc.constantFrom(
    undefined,
    'td.one/ns/a/sa/x',
    'td.one/ns/b/sa/y',
    'td.one/ns/ab/sa/x',
    'td.two/ns/a/sa/x',
    'td.two/ns/b/sa/y',
  ),
  ip: fc.constantFrom('10.0.0.1', '10.0.0.2', '10.1.0.1'),
  port: fc.constantFrom('80', '81', '82'),
  method: fc.constantFrom('GET', 'POST', 'PUT'),
  path: fc.constantFrom('/a', '/a/b', '/a/c/b', '/b'),
  // One at :80 is the same host as one without a port, which Istio does not know.
  host: fc.constantFrom('a', 'b.a', 'a:8080', 'b.a:8080', 'c', 'a.b:81'),
  header: fc.constantFrom(undefined, 'a', 'ab', 'b'),
})

const glob = (pattern: string, value: string): boolean => {
  if (pattern.includes('{'))
    return new RegExp(`^${pattern.replaceAll('{**}', '.*').replaceAll('{*}', '[^/]+')}$`).test(value)
  return pattern === '*'
    ? value !== ''
    : new RegExp(`^${pattern.split('*').map(RegExp.escape).join('.*')}$`).test(value)
}
const inBlock = (block: string, ip: string) => (block.includes('/') ? ip.startsWith('10.0.0.') : block === ip)

/** Of any trust domain. */
const workload = (principal: string | undefined) => /\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(principal ?? '')

function istioMatches(name: string, values: readonly string[], asked: Request): boolean {
  const [, namespace, account] = workload(asked.principal) ?? []
  const among = (value: string | undefined) =>
    value !== undefined && values.some(pattern => glob(pattern.toLowerCase(), value.toLowerCase()))
  switch (name) {
    case 'principals':
      return among(asked.principal)
    case 'namespaces':
      return among(namespace)
    case 'serviceAccounts':
      return values.some(
        value => (value.includes('/') ? value : `shop/${value}`) === `${namespace}/${account}`,
      )
    case 'ipBlocks':
      return values.some(block => inBlock(block, asked.ip ?? ''))
    case 'ports':
      return values.includes(asked.port ?? '')
    case 'header':
      return among(asked.header)
    default:
      return among(asked[name.replace(/s$/, '')])
  }
}

const NAMES: { readonly [key: string]: string } = {
  'request.headers[x-a]': 'header',
  'source.namespace': 'namespaces',
  'source.principal': 'principals',
  'source.ip': 'ipBlocks',
  'destination.port': 'ports',
}

const allMatch = (lists: Lists, asked: Request): boolean =>
  Object.entries(lists).every(([field, values]) => {
    const [, plain] = /^not([A-Z].*)$/.exec(field) ?? []
    if (plain === undefined) return istioMatches(field, values, asked)
    return !istioMatches(plain.charAt(0).toLowerCase() + plain.slice(1), values, asked)
  })

const ruleMatches = ({ from, to, when = [] }: Rule, asked: Request): boolean =>
  (from === undefined || from.some(one => allMatch(one.source, asked))) &&
  (to === undefined || to.some(one => allMatch(one.operation, asked))) &&
  when.every(
    ({ key, values, notValues }) =>
      (values === undefined || istioMatches(NAMES[key] ?? '', values, asked)) &&
      (notValues === undefined || !istioMatches(NAMES[key] ?? '', notValues, asked)),
  )

function istioAllows(all: readonly Policy[], asked: Request): boolean {
  const some = (action: Policy['action']) =>
    all.some(one => one.action === action && one.rules.some(each => ruleMatches(each, asked)))
  return !some('DENY') && (!all.some(({ action }) => action === 'ALLOW') || some('ALLOW'))
}

/** Undefined where something has no equal. */
function converted(all: readonly Policy[]) {
  const text = all
    .map((spec, index) => ({
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: `p${index}`, namespace: 'shop' },
      spec,
    }))
    .map(one => JSON.stringify(one))
    .join('\n---\n')
  const origin = { namespace: 'shop', rootNamespace: 'istio-system', trustDomain: 'td.one' }
  // One that says nothing is no mistake beside others.
  const more =
    '\n---\n{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","metadata":{"name":"m"},"spec":{"mtls":{"mode":"PERMISSIVE"}}}'
  const { converted: ours, problems } = convert([{ file: 'a', text: text + more }], origin)
  if (problems.length > 0) return undefined
  const data = Object.fromEntries(ours.map(({ yaml }, index) => [`${index}.yaml`, yaml]))
  const parsed = parsePolicyConfigMap({ data }, { namespace: 'shop', systemNamespace: 'postern-system' })
  if (parsed.kind === 'invalid') throw new Error('what was converted is invalid')
  const set = bind(parsed.documents, { namespace: 'shop', labels: {} }, { systemNamespace: 'postern-system' })
  return compile(set, { trustDomain: 'td.one' })
}

t.test('what is converted lets in nobody whom the original keeps out', async t => {
  const seen = { same: 0, allowed: 0, narrower: 0, refused: 0 }
  fc.assert(
    fc.property(policies, fc.array(request, { minLength: 20, maxLength: 20 }), (all, requests) => {
      const compiled = converted(all)
      seen.refused += Number(compiled === undefined)
      if (compiled === undefined) return true
      return requests.every(asked => {
        const { principal, ip = '', port, method = '', path = '', host = '', header } = asked
        const { allow } = evaluate(compiled, {
          caller: { address: ip, ...(principal && { identity: `spiffe://${principal}` }) },
          port: Number(port),
          address: '10.9.9.9',
          http: { method, path, host, headers: { get: () => header } },
        })
        const was = istioAllows(all, asked)
        seen.same += Number(was === allow)
        seen.allowed += Number(allow)
        seen.narrower += Number(was && !allow)
        return was || !allow
      })
    }),
    { numRuns: RUNS },
  )
  t.ok(seen.allowed > RUNS, `control: ${seen.allowed} were allowed`)
  t.ok(
    seen.narrower > 0 && seen.same > seen.narrower * 4,
    `control: ${seen.same} alike, ${seen.narrower} narrower`,
  )
  t.ok(seen.refused < RUNS / 2, `control: ${seen.refused} had no equal`)
})

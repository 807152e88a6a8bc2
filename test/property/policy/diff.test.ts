// What `postern policy diff` does not find is not there: representatives stand for all texts, and no change of a decision over
// a small alphabet is missed.
import fc from 'fast-check'
import t from 'tap'
import { classesOf } from '../../../cli/policy/diff/automaton.ts'
import { compare, type Difference } from '../../../cli/policy/diff/compare.ts'
import { pathPattern } from '../../../cli/policy/diff/patterns.ts'
import { compile } from '../../../shared/policy/compile.ts'
import { evaluate } from '../../../shared/policy/evaluate.ts'
import { compilePaths, includesPath } from '../../../shared/policy/http-match.ts'
import type { PolicyRequest, PolicySet } from '../../../shared/policy/model.ts'

const RUNS = Number(process.env.POSTERN_PROPERTY_RUNS ?? 20_000) / 40
const optional = { requiredKeys: [] as never[] }
const list = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: 1, maxLength: 2 })
const notEmpty = (value: object) => Object.keys(value).length > 0

const piece = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 3 })
const anyPattern = fc.oneof(
  fc.tuple(piece, fc.constantFrom('', 'head', 'tail')).map(([text, star]) => {
    if (star === 'head') return `*${text}`
    return star === 'tail' || text === '' ? `${text}*` : text
  }),
  fc.constantFrom('/{*}', '/a/{*}', '/{*}/b', '/{**}', '/a/{**}', '/{**}/b', '/{*}/{**}/b', '/{x}/a'),
)

/** All texts of up to six characters, one of them in no pattern. */
function* texts(length = 6): Generator<string> {
  if (length === 0) return
  for (const character of 'ab/z') {
    yield character
    for (const rest of texts(length - 1)) yield character + rest
  }
}
const ALL = [...texts()]

t.test('every text matches the patterns that some representative matches, and no others', async t => {
  const seen = { classes: 0 }
  fc.assert(
    fc.property(fc.array(anyPattern, { maxLength: 5 }), patterns => {
      const { texts, complete } = classesOf(patterns.map(pathPattern), { others: 'z', isText: () => true })
      const sets = patterns.map(pattern => compilePaths([pattern]))
      const matchesOf = (text: string) => sets.map(set => includesPath(set, text)).join()
      const classes = new Set(texts.map(({ text }) => matchesOf(text)))
      seen.classes += classes.size
      const asSaid = texts.every(
        ({ text, matches }) => matchesOf(text) === sets.map((_, index) => matches.includes(index)).join(),
      )
      return (
        complete && asSaid && classes.size === texts.length && ALL.every(text => classes.has(matchesOf(text)))
      )
    }),
    { numRuns: RUNS / 2 },
  )
  t.ok(seen.classes > RUNS, `control: ${seen.classes} classes`)
})

const OWN = { trustDomain: 'td.one' }
const IDS = ['td.one', 'td.two'].flatMap(domain => [
  ...['a', 'ab', 'b'].flatMap(ns => ['x', 'xa'].map(sa => `${domain}/ns/${ns}/sa/${sa}`)),
  `${domain}/other/path`,
])
const cut = (values: readonly string[]) =>
  fc
    .tuple(fc.constantFrom(...values), fc.nat(), fc.constantFrom('', 'head', 'tail'))
    .map(([text, at, star]) => {
      const index = at % (text.length + 1)
      if (star === 'head') return `*${text.slice(index)}`
      return star === 'tail' ? `${text.slice(0, index)}*` : text
    })
const PORTS = [80, 81, 443]
const METHODS = ['GET', 'GETX', 'POST']
const PATHS = ['/', '/a', '/a/b', '/a/b.js', '*']
const HOSTS = ['', 'a', 'a:80', 'b.a:8080', 'c']
const HEADERS = [undefined, null, '', 'a', 'ab']
const ADDRESSES = ['10.0.0.1', '10.0.1.1', '192.168.0.1']

const source = fc
  .record(
    {
      principals: list(cut(IDS)),
      notPrincipals: list(cut(IDS)),
      namespaces: list(cut(['a', 'ab', 'b'])),
      notNamespaces: list(cut(['a', 'ab', 'b'])),
      serviceAccounts: list(fc.constantFrom('a/x', 'ab/xa')),
      trustDomains: list(cut(['td.one', 'td.two'])),
      ipBlocks: list(fc.constantFrom('10.0.0.0/24', '10.0.0.1/32', '0.0.0.0/0')),
    },
    optional,
  )
  .map(all => Object.fromEntries(Object.entries(all).slice(-2)))
  .filter(notEmpty)
const operation = fc
  .record(
    {
      hosts: list(fc.constantFrom('a', '*.a', '*:8080', 'a:80', '*')),
      notMethods: list(cut(METHODS)),
      methods: list(cut(METHODS)),
      paths: list(fc.oneof(cut(['/a', '/a/b', '/a/b.js']), fc.constantFrom('/{*}', '/a/{**}'))),
      notPorts: list(fc.constantFrom(...PORTS)),
      ports: list(fc.constantFrom(...PORTS)),
    },
    optional,
  )
  .map(all => Object.fromEntries(Object.entries(all).slice(-2)))
  .filter(notEmpty)
const condition = list(fc.constantFrom('a', 'a*', '*')).chain(values =>
  fc
    .constantFrom({ values }, { notValues: values })
    .map(lists => ({ key: 'request.headers[x-a]', ...lists })),
)
const rule = fc.record({ from: list(source), to: list(operation), when: list(condition) }, optional)
const policies = fc.array(
  fc.record({
    kind: fc.constant('AuthorizationPolicy' as const),
    name: fc.constantFrom('a/one', 'a/two'),
    action: fc.constantFrom('ALLOW' as const, 'DENY' as const),
    features: fc.constant(['l4']),
    rules: fc.array(rule, { maxLength: 2 }),
  }),
  { maxLength: 2 },
)
const versions = fc.tuple(policies, policies, fc.boolean()).map(([common, more, first]) => {
  const set = (list: PolicySet['policies']): PolicySet => ({
    mode: { inbound: 'permissive', ports: {} },
    defaultAction: 'allow',
    policies: list,
  })
  const [one, two] = [set(common), set([...common, ...more])]
  return first ? ([one, two] as const) : ([two, one] as const)
})

const CONNECTIONS: readonly PolicyRequest[] = [undefined, ...IDS.map(id => `spiffe://${id}`)].flatMap(
  identity =>
    PORTS.concat(9).flatMap(port =>
      ADDRESSES.map(address => ({
        caller: { address, ...(identity && { identity }) },
        port,
        address: '10.9.9.9',
      })),
    ),
)
const REQUESTS: readonly PolicyRequest['http'][] = METHODS.flatMap(method =>
  PATHS.flatMap(path =>
    HOSTS.flatMap(host => HEADERS.map(value => ({ method, path, host, headers: { get: () => value } }))),
  ),
)

const covers = ({ where }: Difference, { caller, port }: PolicyRequest): boolean =>
  (where.port?.some(label => label === String(port) || label === 'any other port') ?? true) &&
  (where.caller?.some(label => (label === 'plaintext') === (caller.identity === undefined)) ?? true)

/** What of a small alphabet is decided otherwise and was not found; a seventh of all requests, with every connection. */
function* missed(before: PolicySet, after: PolicySet, differences: readonly Difference[], seventh: number) {
  const [was, is] = [compile(before, OWN), compile(after, OWN)]
  const asksHttp = /methods|notMethods|paths|hosts|request\./.test(JSON.stringify([before, after]))
  const some = REQUESTS.filter((_, index) => index % 7 === seventh)
  for (const connection of CONNECTIONS)
    for (const http of [undefined, ...some]) {
      const asked = { ...connection, http }
      const change = changeOf(evaluate(was, asked).allow, evaluate(is, asked).allow)
      if (change === undefined) continue
      // Policies that ask nothing of requests were asked about connections alone.
      const opaque = http === undefined || !asksHttp
      const alike = differences.filter(one => one.change === change && one.opaque === opaque)
      const found = alike.some(one => covers(one, asked))
      yield { change, found }
    }
}

const changeOf = (was: boolean, is: boolean) =>
  was === is ? undefined : is ? ('newly allowed' as const) : ('newly denied' as const)

t.test('no decision of a small alphabet changes without being found', async t => {
  const seen = { 'newly allowed': 0, 'newly denied': 0, same: 0, sampled: 0 }
  fc.assert(
    fc.property(versions, fc.nat({ max: 6 }), ([before, after], seventh) => {
      const { differences, sampled } = compare(before, after, OWN, 60_000)
      seen.sampled += Number(sampled)
      seen.same += Number(differences.length === 0)
      if (sampled) return true
      const changed = new Set<keyof typeof seen>()
      for (const { change, found } of missed(before, after, differences, seventh)) {
        if (!found) return false
        changed.add(change)
      }
      for (const change of changed) seen[change] += 1
      return true
    }),
    { numRuns: RUNS },
  )
  for (const what of ['newly allowed', 'newly denied', 'same'] as const)
    t.ok(seen[what] > RUNS / 20, `control: ${what} ${seen[what]} times`)
  t.ok(seen.sampled < RUNS / 4, `control: ${seen.sampled} were sampled`)
})

// The control stream's decoder against its published schema and against arbitrary damage.
import { Ajv } from 'ajv'
import fc, { type Arbitrary } from 'fast-check'
import t from 'tap'
import { canonicalAddress } from '../../../../shared/addresses.ts'
import { decodeFromInjector, decodeFromSidecar } from '../../../../shared/control/decode.ts'
import schema from '../../../../shared/control/messages.schema.json' with { type: 'json' }
import type { FromInjector, FromSidecar } from '../../../../shared/control/messages.ts'
import { PosternError } from '../../../../shared/errors.ts'

const fitsSchema = new Ajv({ allErrors: false }).compile(schema)

const name = fc.string({ minLength: 1, maxLength: 12 })
const port = fc.integer({ min: 1, max: 65_535 })
const hex = fc.stringMatching(/^[0-9a-f]{1,20}$/)
const address = fc.oneof(fc.ipV4(), fc.ipV6()).map(text => canonicalAddress(text) ?? '10.0.0.1')
const cidr = fc.oneof(
  fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })).map(([ip, bits]) => `${ip}/${bits}`),
  fc
    .tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 }))
    .map(([ip, bits]) => `${canonicalAddress(ip)?.includes(':') ? ip : 'fd00::'}/${bits}`),
)
const serial = fc.stringMatching(/^[1-9a-f][0-9a-f]([0-9a-f]{2}){0,19}$/)
const time = fc
  .date({ noInvalidDate: true, min: new Date('1970-01-01'), max: new Date('2200-01-01') })
  .map(date => date.toISOString())
const segment = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/)
const identity = fc.tuple(segment, segment, segment).map(([d, ns, sa]) => `spiffe://${d}/ns/${ns}/sa/${sa}`)
const list = <T>(item: Arbitrary<T>) => fc.array(item, { maxLength: 4 })
/** `optional` keys are absent or present, never undefined. */
const record = <T extends object, K extends keyof T = never>(
  shape: { [P in keyof T]-?: Arbitrary<Exclude<T[P], undefined>> },
  optional: readonly K[] = [],
) => {
  const requiredKeys = (Object.keys(shape) as (keyof T)[]).filter(key => !optional.includes(key as K))
  return fc.record(shape, { requiredKeys, noNullPrototype: true })
}
const kind = <const K extends string>(text: K) => fc.constant(text)
const mode = fc.constantFrom('strict', 'permissive')

const pod = record({ uid: name, name, namespace: name, identity, skipInboundPorts: list(port), zone: name }, [
  'zone',
])
const endpoint = record({ address, port, zone: name, mesh: pod }, ['zone', 'mesh'])
const entry = fc.oneof(
  record({ kind: kind('mesh'), address, pod }),
  record({ kind: kind('plain'), address }),
  record(
    {
      kind: kind('service'),
      address,
      service: name,
      ports: list(record({ port, endpoints: list(endpoint) })),
      affinitySeconds: fc.integer({ min: 1, max: 86_400 }),
    },
    ['affinitySeconds'],
  ),
  record({ kind: kind('unknown'), address }),
  record({ kind: kind('ambiguous'), address, uids: list(name) }),
)
const names = list(name)
const source = record({ principals: names, notPrincipals: names, namespaces: names }, [
  'principals',
  'notPrincipals',
  'namespaces',
])
const operation = record(
  { ports: list(port), notPorts: list(port), hosts: names, notMethods: names, paths: names },
  ['ports', 'notPorts', 'hosts', 'notMethods', 'paths'],
)
const policy = record({
  kind: kind('AuthorizationPolicy'),
  name,
  action: fc.constantFrom('ALLOW', 'DENY'),
  rules: list(record({ from: list(source), to: list(operation) }, ['from', 'to'])),
  features: names,
})
const partner = segment.chain(domain =>
  record({
    trustDomain: fc.constant(domain),
    roots: names,
    destinations: list(
      record({
        cidr,
        identities: list(
          fc.constantFrom(`spiffe://${domain}/ns/shop/sa/cart`, `spiffe://${domain}/ns/shop/*`),
        ),
      }),
    ),
  }),
)
const partnerClients = record({
  name,
  roots: names,
  ports: list(port),
  principals: list(record({ subject: name, principal: identity })),
})
const outsideHost = record(
  {
    name,
    host: name,
    addresses: list(cidr),
    ports: list(port),
    tls: record({ mode: name, roots: names, alpn: names }, ['roots', 'alpn']),
    features: names,
  },
  ['ports'],
)
const byPort = <T>(value: Arbitrary<T>) =>
  fc.dictionary(port.map(String), value, { maxKeys: 3, noNullPrototype: true })
const state = record(
  {
    kind: kind('state'),
    version: fc.integer({ min: 1 }),
    policy: record({
      mode: record({ inbound: mode, ports: byPort(mode) }),
      policies: list(policy),
      defaultAction: fc.constantFrom('allow', 'deny'),
    }),
    trust: list(record({ trustDomain: segment, roots: names })),
    prefixes: list(cidr),
    protocols: byPort(fc.constantFrom('http1', 'http2')),
    zone: name,
    retired: list(hex),
    revokedRoots: list(hex),
    revoked: record({ serials: list(serial), identities: list(identity), pods: names }),
    renew: record({ before: time, withinSeconds: fc.integer({ min: 0, max: 604_800 }) }),
    partners: fc.uniqueArray(partner, { maxLength: 3, selector: ({ trustDomain }) => trustDomain }),
    partnerClients: list(partnerClients),
    outside: list(outsideHost),
  },
  [
    'protocols',
    'zone',
    'revoked',
    'renew',
    'retired',
    'revokedRoots',
    'partners',
    'partnerClients',
    'outside',
  ],
)
const addresses = record({ kind: kind('addresses'), entries: list(entry) })
const status = record(
  {
    kind: kind('status'),
    stateVersion: fc.nat(),
    roots: list(hex),
    certificateSerial: hex,
    certificateNotAfter: time,
  },
  ['certificateSerial', 'certificateNotAfter'],
)
const hello = record({ kind: kind('hello'), podUid: name, version: name, features: names })
const subscribe = record({ kind: kind('subscribe'), addresses: list(address) })

const fromInjector = fc.oneof(state, addresses)
const fromSidecar = fc.oneof(hello, subscribe, status)

t.test('every message is read back as it was written, and fits the schema', async t => {
  const readsBack = (decode: (line: string) => FromInjector | FromSidecar) => (message: object) => {
    t.strictSame(decode(JSON.stringify(message)), message)
    if (!fitsSchema(message)) throw new Error(JSON.stringify(fitsSchema.errors))
  }
  fc.assert(fc.property(fromInjector, readsBack(decodeFromInjector)), { numRuns: 150 })
  fc.assert(fc.property(fromSidecar, readsBack(decodeFromSidecar)), { numRuns: 150 })
})

/** All places in a JSON value, as ways to replace what is there. */
function places(value: unknown): ((replacement: unknown) => unknown)[] {
  const here = (replacement: unknown) => replacement
  if (typeof value !== 'object' || value === null) return [here]
  const inside = Object.entries(value).flatMap(([key, child]) =>
    places(child).map(replace => (replacement: unknown) => {
      const changed = replace(replacement)
      if (Array.isArray(value)) return value.map((item, index) => (String(index) === key ? changed : item))
      return { ...value, [key]: changed }
    }),
  )
  const added = (replacement: unknown) =>
    Array.isArray(value) ? [...value, replacement] : { ...value, extra: replacement }
  return [here, added, ...inside]
}

t.test(
  'damage is refused with one code or gives what the schema allows, and never anything else',
  async t => {
    let refused = 0
    const damaged = fc
      .tuple(fc.oneof(fromInjector, fromSidecar), fc.nat(), fc.jsonValue({ maxDepth: 2 }))
      .map(([message, at, replacement]) => {
        const all = places(message)
        return all[at % all.length]?.(replacement)
      })
    fc.assert(
      fc.property(damaged, value => {
        for (const decode of [decodeFromInjector, decodeFromSidecar]) {
          try {
            const message = decode(JSON.stringify(value))
            if (!fitsSchema(message)) throw new Error(JSON.stringify(fitsSchema.errors))
          } catch (thrown) {
            if (!(thrown instanceof PosternError) || thrown.code !== 'PSTN_CONTROL_MALFORMED') throw thrown
            refused++
          }
        }
      }),
      { numRuns: 1500 },
    )
    t.ok(refused > 1500, `control: most damage is refused (${refused} of 3000)`)
  },
)

t.test('text that is no message is refused with the same code', async t => {
  for (const line of ['', 'null', '[]', '7', '{', '{}', '{"kind":"__proto__"}', '{"kind":"constructor"}']) {
    t.throws(() => decodeFromInjector(line), { code: 'PSTN_CONTROL_MALFORMED' }, line)
  }
})

t.test('what an injector of 0.1 sends is read as it is: nothing is declared', async t => {
  const message = {
    kind: 'state',
    version: 1,
    policy: { mode: { inbound: 'strict', ports: {} }, policies: [], defaultAction: 'allow' },
    trust: [],
    prefixes: [],
  }
  t.strictSame(decodeFromInjector(JSON.stringify(message)), message)
})

t.test('a policy from the future passes whole, for compile() to refuse what it covers', async t => {
  const policy = {
    kind: 'AuthorizationPolicy',
    name: 'shop/later',
    action: 'AUDIT',
    features: ['l7'],
    rules: [{ from: [{ requestPrincipals: ['*'] }], to: [{ paths: ['/x'] }], when: [{ key: 'k' }] }],
  }
  const message = {
    kind: 'state',
    version: 1,
    policy: { mode: { inbound: 'strict', ports: {} }, policies: [policy], defaultAction: 'allow' },
    trust: [],
    prefixes: [],
  }
  t.strictSame(decodeFromInjector(JSON.stringify(message)), message)
})

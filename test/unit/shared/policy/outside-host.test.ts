import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import t from 'tap'
import { parse as parseYaml } from 'yaml'
import { bindOutside } from '../../../../shared/policy/bind.ts'
import { describeProblem, unreadableOutside } from '../../../../shared/policy/document.ts'
import {
  decodeOutside,
  matchOutside,
  type OutsideHost,
  outsideObstacle,
} from '../../../../shared/policy/outside-host.ts'
import { parsePolicyConfigMap } from '../../../../shared/policy/parse.ts'
import { outsideAuthority } from '../../../support/outside-host.ts'

const ORIGIN = { namespace: 'shop', systemNamespace: 'postern-system' }
const { root } = await outsideAuthority()
const { leaf } = await (await outsideAuthority()).issue({ dns: ['api.partner.example'] })

const SPEC = {
  host: 'api.partner.example',
  addresses: ['203.0.113.0/28'],
  ports: [443, '5432'],
  tls: { mode: 'MUTUAL', caBundle: root },
}
const documentOf = (spec: object) =>
  JSON.stringify({
    apiVersion: 'policy.postern.dev/v1',
    kind: 'OutsideHost',
    metadata: { name: 'partner' },
    spec,
  })
const parse = (spec: object) => parsePolicyConfigMap({ data: { 'p.yaml': documentOf(spec) } }, ORIGIN)

t.test('a document is normalized to what a sidecar is sent', async t => {
  const selector = { matchLabels: { app: 'orders' } }
  const spec = { ...SPEC, selector, addresses: ['203.0.113.0/28', '2001:db8::7', '203.0.113.0/28'] }
  t.strictSame(parse({ ...spec, tls: { ...spec.tls, caBundle: `${root}${root}`, alpn: ['h2'] } }), {
    kind: 'valid',
    documents: [
      {
        kind: 'OutsideHost',
        namespace: 'shop',
        selector: { app: 'orders' },
        outside: {
          name: 'shop/partner',
          host: 'api.partner.example',
          addresses: ['203.0.113.0/28', '2001:db8::7/128'],
          ports: [443, 5432],
          tls: { mode: 'MUTUAL', roots: [root, root].map(pem => pem), alpn: ['h2'] },
          features: [],
        },
      },
    ],
  })
  t.match(parse({ ...SPEC, tls: { mode: 'SIMPLE', publicRoots: true } }), {
    documents: [{ outside: { tls: { mode: 'SIMPLE', roots: undefined } } }],
  })
})

const cases: readonly [string, object, RegExp][] = [
  ['a host that is an address', { host: '203.0.113.7' }, /spec\.host: "203\.0\.113\.7" is not valid/],
  ['a host with a port', { host: 'api.partner.example:443' }, /spec\.host/],
  ['a host with a wildcard', { host: '*.partner.example' }, /spec\.host/],
  ['a host in capitals', { host: 'API.partner.example' }, /lower case/],
  ['no host', { host: undefined }, /spec\.host: is empty/],
  ['a name for an address', { addresses: ['api.partner.example'] }, /names are not resolved/],
  ['an address that is not canonical', { addresses: ['2001:DB8::7'] }, /spec\.addresses\[0\].*canonical/],
  ['a network with host bits', { addresses: ['203.0.113.7/28'] }, /spec\.addresses\[0\].*canonical/],
  ['an IPv4 address in IPv6', { addresses: ['::ffff:203.0.113.7'] }, /canonical/],
  ['the whole internet', { addresses: ['0.0.0.0/0'] }, /wider than \/8/],
  ['the whole internet, IPv6', { addresses: ['2000::/3'] }, /wider than \/16/],
  ['no address', { addresses: [] }, /spec\.addresses: is empty; name at least one/],
  ['no port', { ports: undefined }, /spec\.ports: is empty, not a list/],
  ['a port that is none', { ports: [70000] }, /70000 is not a port/],
  [
    'a mode that is not there',
    { tls: { mode: 'ISTIO_MUTUAL', caBundle: root } },
    /spec\.tls\.mode: unknown value/,
  ],
  ['nobody to trust', { tls: { mode: 'SIMPLE' } }, /spec\.tls: does not say whom to trust; write caBundle/],
  ['public roots for MUTUAL', { tls: { mode: 'MUTUAL', publicRoots: true } }, /any host of the public web/],
  ['public roots that are false', { tls: { mode: 'SIMPLE', publicRoots: false } }, /is not true/],
  ['both', { tls: { mode: 'SIMPLE', publicRoots: true, caBundle: root } }, /stands beside caBundle/],
  [
    'a bundle of nothing',
    { tls: { mode: 'SIMPLE', caBundle: 'roots' } },
    /caBundle.*write 1 to 32 CA certificates/,
  ],
  ['a leaf for a root', { tls: { mode: 'SIMPLE', caBundle: leaf } }, /holds what is no CA certificate/],
  [
    'a damaged root',
    { tls: { mode: 'SIMPLE', caBundle: root.replace(/^M.*$/m, 'AAAA') } },
    /holds what is no CA certificate/,
  ],
  [
    'a private key',
    { tls: { mode: 'SIMPLE', caBundle: `${root}-----BEGIN PRIVATE KEY-----` } },
    /holds a private key/,
  ],
  ['a protocol with a blank', { tls: { ...SPEC.tls, alpn: ['h 2'] } }, /spec\.tls\.alpn\[0\]/],
  ['a field that is not there', { sni: 'x' }, /spec\.sni: unknown field/],
  ['an empty selector', { selector: { matchLabels: {} } }, /selects by no label/],
]
for (const [name, wrong, expected] of cases) {
  t.test(`refused by place and hint: ${name}`, async t => {
    const parsed = parse({ ...SPEC, ...wrong })
    const problems = parsed.kind === 'invalid' ? parsed.problems.map(describeProblem) : []
    t.equal(problems.length, 1, problems.join('\n'))
    t.match(problems[0], expected)
  })
}

t.test('every example of docs/outside-hosts.md is valid', async t => {
  const docs = await readFile(new URL('../../../../docs/outside-hosts.md', import.meta.url), 'utf8')
  const blocks = [...docs.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = '']) => text)
  t.equal(blocks.length, 1)
  for (const text of blocks) t.match(parsePolicyConfigMap(parseYaml(text), ORIGIN), { kind: 'valid' })
})

t.test('two documents of one ConfigMap that meet are refused; those that need not meet are not', async t => {
  const document = (name: string, spec: object) =>
    JSON.stringify({
      apiVersion: 'policy.postern.dev/v1',
      kind: 'OutsideHost',
      metadata: { name },
      spec: { ...SPEC, ...spec },
    })
  const parsed = (spec: object) =>
    parsePolicyConfigMap({ data: { a: document('a', {}), b: document('b', spec) } }, ORIGIN)
  for (const addresses of [['203.0.113.7'], ['203.0.112.0/22'], ['198.51.100.1', '203.0.113.15/32']]) {
    const outcome = parsed({ addresses })
    const problems = outcome.kind === 'invalid' ? outcome.problems.map(describeProblem) : []
    t.same(problems, [
      'data:1:1: OutsideHost shop/a and shop/b declare the same address and port for the same pods; give each its own addresses or ports: a sidecar would use neither',
    ])
  }
  for (const apart of [
    { addresses: ['203.0.113.16'] },
    { ports: [80] },
    { selector: { matchLabels: { app: 'orders' } } },
    { addresses: ['2001:db8::/32'] },
  ])
    t.match(parsed(apart), { kind: 'valid' })
  const many = Array.from({ length: 256 }, (_, n) => `198.18.${n}.0/24`)
  const started = performance.now()
  t.match(parsed({ addresses: [...many.slice(1), '203.0.113.7'] }), { kind: 'invalid' })
  t.ok(performance.now() - started < 200)
})

const host = (name: string, rest: Partial<OutsideHost> = {}): OutsideHost => ({
  name,
  host: 'api.partner.example',
  addresses: ['203.0.113.0/28'],
  ports: [443],
  tls: { mode: 'SIMPLE', roots: [root] },
  features: [],
  ...rest,
})

t.test('documents hold for the pods of their namespace that they select, or for all', async t => {
  const document = (namespace: string, name: string, selector?: Record<string, string>) => ({
    kind: 'OutsideHost' as const,
    namespace,
    ...(selector && { selector }),
    outside: host(`${namespace}/${name}`),
  })
  const documents = [
    document('shop', 'b'),
    document('shop', 'a', { app: 'orders' }),
    document('shop', 'c', { app: 'web' }),
    document('bank', 'a'),
    document('postern-system', 'all'),
  ]
  const pod = { namespace: 'shop', labels: { app: 'orders' } }
  const names = bindOutside(documents, pod, ORIGIN).map(({ name }) => name)
  t.same(names, ['postern-system/all', 'shop/a', 'shop/b'])
})

t.test('what this build does not know of a host is named, and nothing of it is lost on the way', async t => {
  t.equal(outsideObstacle(host('a')), undefined)
  const newer = [
    host('a', { features: ['sni-from-request'] }),
    host('a', { tls: { mode: 'OPPORTUNISTIC' } }),
    { ...host('a'), egressGateway: 'x' },
    { ...host('a'), tls: { mode: 'SIMPLE', pins: ['x'] } },
    unreadableOutside('shop', 'broken').outside,
  ]
  const decoded = decodeOutside(JSON.parse(JSON.stringify(newer)), 'outside')
  t.same(decoded.map(outsideObstacle), [
    'sni-from-request',
    'the mode OPPORTUNISTIC',
    'the field egressGateway',
    'the field pins',
    'a valid document',
  ])
  t.match(matchOutside(decoded)([{ address: '2001:db8::1', port: 1 }]), [{ name: 'shop/broken' }])
})

t.test('a place belongs to every host that names its address and port, and to no other', async t => {
  const octet = fc.integer({ min: 0, max: 3 })
  const port = fc.constantFrom(443, 5432, 80)
  const declared = fc.record({
    network: octet,
    bits: fc.constantFrom(30, 31, 32),
    ports: fc.uniqueArray(port),
  })
  const place = fc.record({ address: octet, port })
  fc.assert(
    fc.property(fc.array(declared, { maxLength: 5 }), fc.array(place, { maxLength: 3 }), (all, places) => {
      const hosts = all.map(({ network, bits, ports }, index) =>
        host(`shop/${index}`, { addresses: [`203.0.113.${network}/${bits}`], ports }),
      )
      const found = matchOutside(hosts)(
        places.map(({ address, port }) => ({ address: `203.0.113.${address}`, port })),
      )
      const expected = all.flatMap(({ network, bits, ports }, index) => {
        const shift = 32 - bits
        const isMeant = places.some(
          ({ address, port }) => address >> shift === network >> shift && ports.includes(port),
        )
        return isMeant ? [`shop/${index}`] : []
      })
      t.same(
        found.map(({ name }) => name),
        expected,
      )
    }),
    { numRuns: 300 },
  )
})

import t from 'tap'
import { createDirectory } from '../../../../proxy/resolve/directory.ts'
import { type Choice, choose, createResolver } from '../../../../proxy/resolve/resolver.ts'
import type { AddressEntry, Endpoint, MeshPod, State } from '../../../../shared/control/messages.ts'
import { live } from '../../../../shared/live.ts'
import { PORTS } from '../../../../shared/ports.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const never = new AbortController().signal
const A = '10.244.0.1'
const V6 = 'fd00::1'

const pod = (skipInboundPorts: readonly number[] = []): MeshPod => ({
  uid: 'u-1',
  name: 'web-1',
  namespace: 'shop',
  identity: 'spiffe://cluster.local/ns/shop/sa/web',
  skipInboundPorts,
})

const choice = (more: Partial<Choice> = {}): Choice => ({
  outbound: 'auto',
  random: () => 0,
  load: () => 0,
  ...more,
})

const service = (endpoints: readonly Endpoint[]): AddressEntry => ({
  kind: 'service',
  address: '10.96.0.9',
  service: 'shop/web',
  ports: [{ port: 80, endpoints }],
})

const tunnel = (address: string, authority: string, to = pod()) => ({
  kind: 'tunnel',
  target: { address, pod: to, authority },
})
const refused = (code: string) => ({ kind: 'refused', code })

t.test('each kind of address has one route', async t => {
  const require = { outbound: 'require' } as const
  const cases: readonly [string, AddressEntry, number, Partial<Choice>, object][] = [
    ['a mesh pod', { kind: 'mesh', address: A, pod: pod() }, 8080, {}, tunnel(A, '10.244.0.1:8080')],
    [
      'a mesh pod over IPv6',
      { kind: 'mesh', address: V6, pod: pod() },
      8080,
      {},
      tunnel(V6, '[fd00::1]:8080'),
    ],
    [
      'a mesh pod, when mesh is required',
      { kind: 'mesh', address: A, pod: pod() },
      80,
      require,
      tunnel(A, '10.244.0.1:80'),
    ],
    [
      'a port that its capture skips',
      { kind: 'mesh', address: A, pod: pod([9090]) },
      9090,
      {},
      { kind: 'plain', address: A, port: 9090 },
    ],
    [
      'the status port of its sidecar, which a scraper in the mesh reads as any other does',
      { kind: 'mesh', address: A, pod: pod() },
      PORTS.status,
      {},
      { kind: 'plain', address: A, port: PORTS.status },
    ],
    [
      'such a port, when mesh is required',
      { kind: 'mesh', address: A, pod: pod([9090]) },
      9090,
      require,
      refused('PSTN_OUTBOUND_REQUIRED'),
    ],
    [
      'a pod without a sidecar',
      { kind: 'plain', address: A },
      80,
      {},
      { kind: 'plain', address: A, port: 80 },
    ],
    [
      'such a pod, when mesh is required',
      { kind: 'plain', address: A },
      80,
      require,
      refused('PSTN_OUTBOUND_REQUIRED'),
    ],
    [
      'a Service of a mesh pod',
      service([{ address: A, port: 8080, mesh: pod() }]),
      80,
      {},
      tunnel(A, '10.244.0.1:8080'),
    ],
    [
      'a Service of a plain pod',
      service([{ address: A, port: 8080 }]),
      80,
      {},
      { kind: 'plain', address: A, port: 8080 },
    ],
    [
      'such a Service, when mesh is required',
      service([{ address: A, port: 8080 }]),
      80,
      require,
      refused('PSTN_OUTBOUND_REQUIRED'),
    ],
    [
      'a Service whose pod skips the port',
      service([{ address: A, port: 8080, mesh: pod([8080]) }]),
      80,
      {},
      { kind: 'plain', address: A, port: 8080 },
    ],
    ['a Service without ready endpoints', service([]), 80, {}, refused('PSTN_NO_ENDPOINT')],
    [
      'a port that the Service does not have',
      service([{ address: A, port: 8080 }]),
      81,
      {},
      refused('PSTN_NO_ENDPOINT'),
    ],
    ['an address that nothing has', { kind: 'unknown', address: A }, 80, {}, refused('PSTN_ADDRESS_UNKNOWN')],
    [
      'an address that two pods claim',
      { kind: 'ambiguous', address: A, uids: ['a', 'b'] },
      80,
      {},
      refused('PSTN_ADDRESS_AMBIGUOUS'),
    ],
  ]
  for (const [name, entry, port, more, expected] of cases)
    t.match(choose(entry, port, choice(more)), expected, name)
})

t.test('of two random endpoints the one with fewer connections is taken', async t => {
  const endpoints = ['10.244.0.1', '10.244.0.2', '10.244.0.3'].map(address => ({ address, port: 80 }))
  const load = new Map([
    ['10.244.0.1', 5],
    ['10.244.0.2', 1],
    ['10.244.0.3', 9],
  ])
  const chosen = (...numbers: number[]) =>
    choose(
      service(endpoints),
      80,
      choice({ random: () => numbers.shift() ?? 0, load: address => load.get(address) ?? 0 }),
    )
  t.match(chosen(0, 0), { address: '10.244.0.2' }, 'first and second')
  t.match(chosen(0, 0.9), { address: '10.244.0.1' }, 'first and third')
  t.match(chosen(0.9, 0.9), { address: '10.244.0.2' }, 'third and second')
})

t.test('connections that stay open spread evenly over endpoints', async t => {
  const endpoints = Array.from({ length: 10 }, (_, n) => ({ address: `10.244.0.${n}`, port: 80 }))
  const load = new Map<string, number>()
  for (let n = 0; n < 1000; n++) {
    const route = choose(
      service(endpoints),
      80,
      choice({ random: Math.random, load: address => load.get(address) ?? 0 }),
    )
    if (route.kind === 'plain') load.set(route.address, (load.get(route.address) ?? 0) + 1)
  }
  t.equal(load.size, 10)
  t.ok(
    [...load.values()].every(count => count > 80 && count < 120),
    [...load.values()].join(),
  )
})

const stateWith = (prefixes: readonly string[]): State => ({
  kind: 'state',
  version: 1,
  policy: { mode: { inbound: 'permissive', ports: {} }, policies: [], defaultAction: 'allow' },
  trust: [],
  prefixes,
})

function resolver(prefixes: readonly string[] | undefined, outbound: Choice['outbound'] = 'auto') {
  const state = live(prefixes && stateWith(prefixes))
  const directory = createDirectory(steppingClock())
  return { state, directory, ...createResolver({ ...choice({ outbound }), state, directory }) }
}

t.test(
  'before the first state nothing is resolved, since everything would look like the outside',
  async t => {
    const { resolve, state } = resolver(undefined)
    await t.rejects(resolve('192.0.2.1', 443, never), { code: 'PSTN_NOT_READY' })
    state.set(stateWith(['10.0.0.0/8']))
    t.same(await resolve('192.0.2.1', 443, never), { kind: 'plain', address: '192.0.2.1', port: 443 })
  },
)

t.test('outside the prefixes is plaintext without asking, or refused where mesh is required', async t => {
  const auto = resolver(['10.0.0.0/8', 'fd00::/8'])
  for (const address of ['192.0.2.1', '2001:db8::1']) {
    t.match(await auto.resolve(address, 443, never), { kind: 'plain', address })
  }
  t.same(auto.directory.wanted(), [])
  const strict = resolver(['10.0.0.0/8'], 'require')
  await t.rejects(strict.resolve('192.0.2.1', 443, never), { code: 'PSTN_OUTBOUND_REQUIRED' })
})

t.test('inside the prefixes the directory decides, and its silence is a refusal', async t => {
  const { resolve, directory } = resolver(['10.0.0.0/8', 'fd00::/8'])
  await t.rejects(resolve(A, 80, never), { code: 'PSTN_ADDRESS_UNKNOWN', message: /10\.244\.0\.1:80/ })
  const found = resolve(V6, 80, never)
  directory.receive([{ kind: 'mesh', address: V6, pod: pod() }])
  t.match(await found, tunnel(V6, '[fd00::1]:80'))
})

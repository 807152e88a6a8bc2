import t from 'tap'
import type { Balancer } from '../../../../proxy/resolve/balancer.ts'
import { createDirectory } from '../../../../proxy/resolve/directory.ts'
import type { Resolution } from '../../../../proxy/resolve/opening.ts'
import { createOutside } from '../../../../proxy/resolve/outside.ts'
import { createResolver } from '../../../../proxy/resolve/resolver.ts'
import type { Outbound } from '../../../../proxy/resolve/route.ts'
import { createServices } from '../../../../proxy/resolve/services.ts'
import type { AddressEntry, Endpoint, MeshPod, State } from '../../../../shared/control/messages.ts'
import type { Partner } from '../../../../shared/federation/model.ts'
import { NO_PARTNERS, partnersOf } from '../../../../shared/federation/partners.ts'
import { live } from '../../../../shared/live.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const never = new AbortController().signal
const A = '10.244.0.1'
const SERVICE = '10.96.0.9'

const pod: MeshPod = {
  uid: 'u-1',
  name: 'web-1',
  namespace: 'shop',
  identity: 'spiffe://cluster.local/ns/shop/sa/web',
  skipInboundPorts: [],
}

const service = (...endpoints: Endpoint[]): AddressEntry => ({
  kind: 'service',
  address: SERVICE,
  service: 'shop/web',
  ports: [{ port: 80, endpoints }],
})

const stateWith = (prefixes: readonly string[], zone?: string): State => ({
  kind: 'state',
  version: 1,
  policy: { mode: { inbound: 'permissive', ports: {} }, policies: [], defaultAction: 'allow' },
  trust: [],
  prefixes,
  ...(zone && { zone }),
})

function resolver(
  prefixes: readonly string[] | undefined,
  outbound: Outbound = 'auto',
  known: readonly Partner[] = [],
) {
  const state = live(prefixes && stateWith(prefixes))
  const partners = live(partnersOf(known, { trustDomain: 'cluster.local', prefixes: prefixes ?? [] }))
  const clock = steppingClock()
  const directory = createDirectory(clock)
  const outside = createOutside(state, outbound, partners)
  const services = createServices({ outside, now: clock.monotonic, random: () => 0, observe: () => {} })
  return {
    clock,
    state,
    directory,
    partners,
    outside,
    ...createResolver({ state, directory, services, outside }),
  }
}

const balancerOf = (resolution: Resolution): Balancer => {
  if (resolution.kind !== 'service') throw new Error('not a Service')
  return resolution.balancer
}

t.test(
  'before the first state nothing is resolved, since everything would look like the outside',
  async t => {
    const { resolve, state } = resolver(undefined)
    await t.rejects(resolve('192.0.2.1', 443, never), { code: 'PSTN_NOT_READY' })
    state.set(stateWith(['10.0.0.0/8']))
    t.match(await resolve('192.0.2.1', 443, never), { route: { kind: 'plain', address: '192.0.2.1' } })
  },
)

t.test('outside the prefixes is plaintext without asking, or refused where mesh is required', async t => {
  const auto = resolver(['10.0.0.0/8', 'fd00::/8'])
  for (const address of ['192.0.2.1', '2001:db8::1']) {
    t.match(await auto.resolve(address, 443, never), { kind: 'single', route: { kind: 'plain', address } })
  }
  t.same(auto.directory.wanted(), [])
  const strict = resolver(['10.0.0.0/8'], 'require')
  await t.rejects(strict.resolve('192.0.2.1', 443, never), { code: 'PSTN_OUTBOUND_REQUIRED' })
})

t.test('inside the prefixes the directory decides, and its silence is a refusal', async t => {
  const { resolve, directory } = resolver(['10.0.0.0/8', 'fd00::/8'])
  await t.rejects(resolve(A, 80, never), { code: 'PSTN_ADDRESS_UNKNOWN', message: /10\.244\.0\.1:80/ })
  const found = resolve('fd00::1', 80, never)
  directory.receive([{ kind: 'mesh', address: 'fd00::1', pod }])
  t.match(await found, { route: { kind: 'tunnel', target: { authority: '[fd00::1]:80', expected: pod } } })
})

const kinds: readonly [string, readonly Endpoint[], number, Outbound, string | object][] = [
  [
    'a Service leads through its endpoint’s tunnel',
    [{ address: A, port: 8080, mesh: pod }],
    80,
    'auto',
    { kind: 'tunnel', target: { authority: '10.244.0.1:8080' } },
  ],
  [
    'a Service leads to an endpoint without a sidecar in plaintext',
    [{ address: A, port: 8080 }],
    80,
    'auto',
    { kind: 'plain', address: A, port: 8080 },
  ],
  [
    'a Service of such endpoints alone is refused when mesh is required',
    [{ address: A, port: 8080 }],
    80,
    'require',
    'PSTN_OUTBOUND_REQUIRED',
  ],
  [
    'of a Service that is half in the mesh only that half is used when mesh is required',
    [
      { address: '10.244.0.7', port: 8080 },
      { address: A, port: 8080, mesh: pod },
    ],
    80,
    'require',
    { kind: 'tunnel', target: { address: A } },
  ],
  [
    'an endpoint whose sidecar leaves the port alone is dialled in plaintext',
    [{ address: A, port: 8080, mesh: { ...pod, skipInboundPorts: [8080] } }],
    80,
    'auto',
    { kind: 'plain', address: A, port: 8080 },
  ],
  ['a Service without ready endpoints is refused', [], 80, 'auto', 'PSTN_NO_ENDPOINT'],
  [
    'a port that the Service does not have is refused',
    [{ address: A, port: 8080 }],
    81,
    'auto',
    'PSTN_NO_ENDPOINT',
  ],
]
for (const [name, endpoints, port, outbound, expected] of kinds) {
  t.test(name, async t => {
    const { resolve, directory } = resolver(['10.0.0.0/8'], outbound)
    const found = resolve(SERVICE, port, never)
    directory.receive([service(...endpoints)])
    if (typeof expected === 'string') return void (await t.rejects(found, { code: expected }))
    t.match(balancerOf(await found).take([]), { route: expected })
  })
}

t.test('what is known of endpoints outlives a new entry, and is forgotten with the address', async t => {
  const { resolve, directory, clock } = resolver(['10.0.0.0/8'])
  const now = async () => balancerOf(await resolve(SERVICE, 80, never))
  const first = now()
  directory.receive([service({ address: A, port: 80 }, { address: '10.244.0.2', port: 80 })])
  const before = await first
  t.equal(await now(), before, 'the same entry')
  directory.receive([service({ address: A, port: 80 })])
  t.equal(await now(), before)
  t.equal(before.size, 1)
  clock.advance(6 * 60_000)
  directory.sweep()
  t.equal(before.size, 0)
  const again = now()
  directory.receive([service({ address: A, port: 80 })])
  t.not(await again, before)
})

t.test('a zone that becomes known later is preferred from then on', async t => {
  const { resolve, directory, state } = resolver(['10.0.0.0/8'])
  const entry = service({ address: A, port: 80, zone: 'a' }, { address: '10.244.0.2', port: 80, zone: 'b' })
  const taken = async () => balancerOf(await resolve(SERVICE, 80, never)).take([])?.endpoint
  const first = taken()
  directory.receive([entry])
  t.equal(await first, '10.244.0.1:80')
  state.set(stateWith(['10.0.0.0/8'], 'b'))
  t.equal(await taken(), '10.244.0.2:80')
  state.set(stateWith(['10.0.0.0/8'], 'a'))
  t.equal(await taken(), '10.244.0.1:80')
})

const partner = (trustDomain: string, cidr: string): Partner => ({
  trustDomain,
  roots: [],
  destinations: [{ cidr, identities: [`spiffe://${trustDomain}/*`] }],
})
const THEIRS = '10.20.0.7'

t.test('where a partner is there is a tunnel or nothing, whatever the port and `outbound` are', async t => {
  const partners = [partner('partner.example', '10.20.0.0/16'), partner('greedy.example', '10.0.0.0/8')]
  for (const outbound of ['auto', 'require'] as const)
    for (const port of [80, 15_020]) {
      const { resolve } = resolver(['10.244.0.0/16'], outbound, partners)
      t.match(await resolve(THEIRS, port, never), {
        route: {
          kind: 'tunnel',
          target: {
            address: THEIRS,
            authority: `${THEIRS}:${port}`,
            expected: { trustDomain: 'partner.example', identities: ['spiffe://partner.example/*'] },
          },
        },
      })
    }
})

t.test('our own prefixes win over a partner that claims them', async t => {
  const { resolve, directory } = resolver(['10.244.0.0/16'], 'auto', [
    partner('greedy.example', '10.244.0.1/32'),
  ])
  const found = resolve(A, 80, never)
  directory.receive([{ kind: 'mesh', address: A, pod }])
  t.match(await found, { route: { target: { expected: pod } } })
})

t.test('an address that two partners have equally is refused', async t => {
  const partners = [partner('a.example', '10.20.0.0/16'), partner('b.example', '10.20.99.99/16')]
  const { resolve } = resolver(['10.244.0.0/16'], 'auto', partners)
  await t.rejects(resolve(THEIRS, 80, never), {
    code: 'PSTN_ADDRESS_AMBIGUOUS',
    message: /a\.example and b\.example/,
  })
})

t.test(
  'an endpoint of a Service that is a partner’s is reached as a partner’s, from when it is one',
  async t => {
    const { resolve, directory, partners } = resolver(['10.244.0.0/16', '10.96.0.0/16'], 'auto')
    const found = resolve(SERVICE, 80, never)
    directory.receive([service({ address: THEIRS, port: 80 })])
    const taken = async (resolution: Promise<Resolution>) => balancerOf(await resolution).take([])?.route
    t.match(await taken(found), { kind: 'plain' }, 'control')
    const known = [partner('partner.example', '10.20.0.0/16')]
    partners.set(partnersOf(known, { trustDomain: 'cluster.local', prefixes: [] }))
    t.match(await taken(resolve(SERVICE, 80, never)), {
      kind: 'tunnel',
      target: { expected: { trustDomain: 'partner.example' } },
    })
  },
)

t.test('a plaintext connection ends when a partner is declared where it leads', async t => {
  const { outside, partners } = resolver(['10.244.0.0/16'])
  const place = { address: THEIRS, port: 80 }
  const elsewhere = { address: '192.0.2.1', port: 80 }
  using held = outside.hold(place, place, undefined)
  using other = outside.hold(elsewhere, elsewhere, undefined)
  const own = { trustDomain: 'cluster.local', prefixes: [] }
  partners.set(partnersOf([partner('partner.example', '10.20.0.0/16')], own))
  t.equal(held.signal.aborted, true)
  t.match(held.signal.reason, { code: 'PSTN_OUTSIDE_CHANGED' })
  partners.set(NO_PARTNERS)
  t.equal(other.signal.aborted, false, 'control: another is let be')
})

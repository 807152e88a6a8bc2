import type { V1Endpoint, V1EndpointSlice, V1Service, V1ServiceSpec } from '@kubernetes/client-node'
import t from 'tap'
import { answer } from '../../../../injector/directory/answer.ts'
import { eligible, type Place, type Placed } from '../../../../injector/directory/eligible.ts'
import { reduce } from '../../../../injector/directory/reduce.ts'
import { createWorld } from '../../../../injector/directory/world.ts'
import { node, pod, service, slice } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

const HERE: Place = { node: 'node-1', zone: 'a' }

type Found = Placed & { readonly name: string }
const on = (name: string, onNode: string, more: Partial<Placed> = {}): Found => ({
  name,
  node: onNode,
  ...more,
})
const zones = (...names: string[]) => ({ hints: { zones: names } })
const nodes = (...names: string[]) => ({ hints: { nodes: names, zones: ['a', 'b'] } })

type Case = {
  readonly says: string
  readonly given: readonly Found[]
  readonly place?: Place | undefined
  readonly isLocal?: boolean
  readonly expected: string
  readonly hinted?: boolean
}
const cases: readonly Case[] = [
  { says: 'all that are ready', given: [on('x', 'node-1'), on('y', 'node-2')], expected: 'x y' },
  {
    says: 'none that is terminating while one is ready',
    given: [on('x', 'node-1', { terminating: true }), on('y', 'node-2')],
    expected: 'y',
  },
  {
    says: 'those that still serve while they end, if no other is left',
    given: [on('x', 'node-1', { terminating: true }), on('y', 'node-2', { terminating: true })],
    expected: 'x y',
  },
  {
    says: 'only those of the own node, where the Service is local',
    given: [on('x', 'node-1'), on('y', 'node-2')],
    isLocal: true,
    expected: 'x',
  },
  {
    says: 'none, where the Service is local and its endpoints are elsewhere',
    given: [on('y', 'node-2'), { name: 'z', node: undefined }],
    isLocal: true,
    expected: '',
  },
  {
    says: 'a terminating one of the own node rather than one of another, where the Service is local',
    given: [on('x', 'node-1', { terminating: true }), on('y', 'node-2')],
    isLocal: true,
    expected: 'x',
  },
  {
    says: 'those that are meant for the own zone',
    given: [on('x', 'node-1', zones('b')), on('y', 'node-2', zones('a', 'b')), on('z', 'node-3', zones('a'))],
    expected: 'y z',
    hinted: true,
  },
  {
    says: 'all, where one has no hint',
    given: [on('x', 'node-1', zones('a')), on('y', 'node-2')],
    expected: 'x y',
  },
  {
    says: 'all, where none is meant for the own zone',
    given: [on('x', 'node-1', zones('b')), on('y', 'node-2', zones('c'))],
    expected: 'x y',
  },
  {
    says: 'all, where the own zone is not known',
    given: [on('x', 'node-1', zones('a')), on('y', 'node-2', zones('b'))],
    place: { node: 'node-1', zone: undefined },
    expected: 'x y',
  },
  {
    says: 'hints of endpoints that are not ready count for nothing',
    given: [
      on('x', 'node-1', zones('a')),
      on('y', 'node-2', zones('b')),
      on('z', 'n', { terminating: true }),
    ],
    expected: 'x',
    hinted: true,
  },
  {
    says: 'those that are meant for the own node before those of the zone',
    given: [on('x', 'node-1', nodes('node-1')), on('y', 'node-2', nodes('node-2'))],
    expected: 'x',
    hinted: true,
  },
  {
    says: 'those of the zone, where none is meant for the own node',
    given: [on('x', 'node-3', nodes('node-3')), on('y', 'node-2', nodes('node-2'))],
    expected: 'x y',
    hinted: true,
  },
  {
    says: 'all to whoever is no pod, hints and locality or not',
    given: [on('x', 'node-2', zones('b')), on('y', 'node-3', zones('c'))],
    place: undefined,
    isLocal: true,
    expected: 'x y',
  },
]
for (const { says, given, isLocal = false, expected, hinted = false, ...more } of cases) {
  t.test(`a caller may be sent to ${says}`, async t => {
    const place = 'place' in more ? more.place : HERE
    const found = eligible(given, place, isLocal)
    t.equal(found.endpoints.map(({ name }) => name).join(' '), expected)
    t.equal(found.hinted, hinted)
  })
}

const CLUSTER_IP = '10.96.0.1'

/** A caller on node-1 in zone a and one on node-2 in zone b; a Service with an endpoint beside each. */
function cluster(spec: Partial<V1ServiceSpec>, ...endpoints: Partial<V1Endpoint>[]) {
  const world = createWorld(WORLD_SETTINGS)
  reduce(world, {
    kind: 'list',
    resource: 'nodes',
    items: [
      node('node-1', { podCidrs: ['10.1.0.0/24'], zone: 'a' }),
      node('node-2', { podCidrs: ['10.1.1.0/24'], zone: 'b' }),
    ],
  })
  reduce(world, {
    kind: 'list',
    resource: 'pods',
    items: [
      pod('caller-1', { ips: ['10.1.0.9'], node: 'node-1' }),
      pod('caller-2', { ips: ['10.1.1.9'], node: 'node-2' }),
      pod('web-1', { ips: ['10.1.0.1'], node: 'node-1' }),
      pod('web-2', { ips: ['10.1.1.1'], node: 'node-2' }),
    ],
  })
  const web: V1Service = service('web', [CLUSTER_IP])
  reduce(world, { kind: 'list', resource: 'services', items: [{ ...web, spec: { ...web.spec, ...spec } }] })
  const bare = slice('web-1', 'web', [
    { ip: '10.1.0.1', podUid: 'uid-web-1' },
    { ip: '10.1.1.1', podUid: 'uid-web-2' },
  ])
  const items: V1EndpointSlice[] = [
    { ...bare, endpoints: (bare.endpoints ?? []).map((one, index) => ({ ...one, ...endpoints[index] })) },
  ]
  reduce(world, { kind: 'list', resource: 'endpointslices', items })
  const ask = (asker?: string) => answer(world, CLUSTER_IP, asker)
  const told = (asker?: string) => {
    const entry = ask(asker)
    if (entry.kind !== 'service') throw new Error(entry.kind)
    return entry.ports[0]?.endpoints.map(({ address, zone }) => `${address} ${zone ?? 'anywhere'}`)
  }
  return { world, ask, told }
}

t.test('without a word of the Service each caller is told all endpoints with their zones', async t => {
  const { told } = cluster({})
  for (const asker of ['uid-caller-1', 'uid-caller-2', undefined])
    t.same(told(asker), ['10.1.0.1 a', '10.1.1.1 b'])
})

t.test('of a local Service each caller is told what is on its node', async t => {
  const { told } = cluster({ internalTrafficPolicy: 'Local' })
  t.same(told('uid-caller-1'), ['10.1.0.1 a'])
  t.same(told('uid-caller-2'), ['10.1.1.1 b'])
})

t.test('where hints decide no zone is told, since they may lead to another on purpose', async t => {
  const { told } = cluster(
    {},
    { hints: { forZones: [{ name: 'b' }] } },
    { hints: { forZones: [{ name: 'a' }] } },
  )
  t.same(told('uid-caller-1'), ['10.1.1.1 anywhere'])
  t.same(told('uid-caller-2'), ['10.1.0.1 anywhere'])
})

t.test('the only pod of a Service is reached until it is gone, though it is ending', async t => {
  const ending = { conditions: { ready: false, serving: true, terminating: true } }
  const gone = { conditions: { ready: false, serving: false, terminating: true } }
  t.same(cluster({}, ending, gone).told('uid-caller-1'), ['10.1.0.1 a'])
  t.same(cluster({}, ending, {}).told('uid-caller-1'), ['10.1.1.1 b'])
})

t.test('a node that moves to another zone changes what its callers are told', async t => {
  const hints = [{ hints: { forZones: [{ name: 'b' }] } }, { hints: { forZones: [{ name: 'a' }] } }]
  const { world, told } = cluster({}, ...hints)
  t.same(told('uid-caller-1'), ['10.1.1.1 anywhere'])
  const moved = node('node-1', { podCidrs: ['10.1.0.0/24'], zone: 'b' })
  const { pods } = reduce(world, { kind: 'set', resource: 'nodes', object: moved })
  t.ok(pods.has('uid-caller-1'), 'it is answered anew')
  t.same(told('uid-caller-1'), ['10.1.0.1 anywhere'])
})

t.test('affinity is told with its time', async t => {
  t.notHas(cluster({}).ask(), { affinitySeconds: 10_800 })
  t.match(cluster({ sessionAffinity: 'ClientIP' }).ask(), { affinitySeconds: 10_800 })
  const sessionAffinityConfig = { clientIP: { timeoutSeconds: 60 } }
  t.match(cluster({ sessionAffinity: 'ClientIP', sessionAffinityConfig }).ask(), { affinitySeconds: 60 })
})

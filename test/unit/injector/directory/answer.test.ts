import t from 'tap'
import { answer } from '../../../../injector/directory/answer.ts'
import { type Objects, type Resource, reduce } from '../../../../injector/directory/reduce.ts'
import { createWorld, type World } from '../../../../injector/directory/world.ts'
import { node, type PodParts, pod, service, serviceCidr, slice } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

type Given = { [R in Resource]?: Objects[R][] }

const list = <R extends Resource>(world: World, resource: R, items: Objects[R][]) =>
  reduce(world, { kind: 'list', resource, items })

/** A cluster of one node, 10.1.0.0/24 for pods and 10.96.0.0/16 for Services, and what is given. */
function cluster(given: Given): World {
  const world = createWorld(WORLD_SETTINGS)
  list(
    world,
    'nodes',
    given.nodes ?? [node('node-1', { ips: ['192.168.0.1'], podCidrs: ['10.1.0.0/24'], zone: 'a' })],
  )
  list(world, 'servicecidrs', given.servicecidrs ?? [serviceCidr('kubernetes', '10.96.0.0/16')])
  list(world, 'pods', given.pods ?? [])
  list(world, 'services', given.services ?? [])
  list(world, 'endpointslices', given.endpointslices ?? [])
  return world
}

const ports = (count: number) => Array.from({ length: count }, (_, index) => index + 1)
const web = (parts: PodParts = {}) => pod('web', { ips: ['10.1.0.5'], ...parts })
const webAnswer = {
  uid: 'uid-web',
  name: 'web',
  namespace: 'shop',
  identity: 'spiffe://cluster.local/ns/shop/sa/web',
  skipInboundPorts: [] as number[],
  zone: 'a',
}

const asked = '10.1.0.5'
const single: [string, Given, object][] = [
  [
    'a pod with a sidecar is mesh, with the identity of its service account',
    { pods: [web()] },
    { kind: 'mesh', address: asked, pod: webAnswer },
  ],
  ['a pod without a sidecar is plain', { pods: [web({ mesh: false })] }, { kind: 'plain', address: asked }],
  [
    'a pod that is being deleted is reached until it is gone',
    { pods: [web({ deleting: true })] },
    { kind: 'mesh', address: asked, pod: webAnswer },
  ],
  [
    'an ended pod has no address',
    { pods: [web({ phase: 'Succeeded' })] },
    { kind: 'unknown', address: asked },
  ],
  ['a failed pod has no address', { pods: [web({ phase: 'Failed' })] }, { kind: 'unknown', address: asked }],
  [
    'an ended pod leaves its address to its successor',
    { pods: [web({ phase: 'Failed', uid: 'old' }), web()] },
    { kind: 'mesh', address: asked, pod: webAnswer },
  ],
  [
    'two live pods with one address are ambiguous',
    { pods: [web(), web({ uid: 'other' })] },
    { kind: 'ambiguous', address: asked, uids: ['other', 'uid-web'] },
  ],
  [
    'a pod in the network of its node claims no address',
    { pods: [web({ hostNetwork: true })] },
    { kind: 'unknown', address: asked },
  ],
  ['what the pod CIDR holds and nobody has is unknown', {}, { kind: 'unknown', address: asked }],
  [
    'ports that the sidecar leaves alone are read from its immutable settings',
    { pods: [web({ config: '{"skipInboundPorts":[9100],"fromANewerVersion":true}' })] },
    { kind: 'mesh', address: asked, pod: { ...webAnswer, skipInboundPorts: [9100] } },
  ],
  [
    'what a hand-written pod says is no port is not passed on: other pods’ sidecars would refuse the message',
    { pods: [web({ config: '{"skipInboundPorts":[9100,0,-1,65536,1.5,"80",null,9100]}' })] },
    { kind: 'mesh', address: asked, pod: { ...webAnswer, skipInboundPorts: [9100] } },
  ],
  [
    'more skipped ports than anybody has do not swell every answer about the pod',
    { pods: [web({ config: JSON.stringify({ skipInboundPorts: ports(1000) }) })] },
    { kind: 'mesh', address: asked, pod: { ...webAnswer, skipInboundPorts: ports(256) } },
  ],
  [
    'settings that are not JSON skip nothing',
    { pods: [web({ config: '{' })] },
    { kind: 'mesh', address: asked, pod: webAnswer },
  ],
]
for (const [name, given, expected] of single) {
  t.test(name, async t => {
    t.same(answer(cluster(given), asked), expected)
  })
}

t.test('nodes and hosts outside the prefixes are plain', async t => {
  const world = cluster({
    nodes: [node('node-1', { ips: ['10.1.0.1', 'name.of.node'], podCidrs: ['10.1.0.0/24'] })],
  })
  t.same(answer(world, '10.1.0.1'), { kind: 'plain', address: '10.1.0.1' })
  t.same(answer(world, '8.8.8.8'), { kind: 'plain', address: '8.8.8.8' })
})

t.test('where no prefix is known, neighbours of pods are asked about but never refused', async t => {
  const world = cluster({ nodes: [node('node-1')], pods: [web({ ips: ['172.16.5.9', 'fd00:1::9'] })] })
  t.same(world.prefixes.asked(), ['10.96.0.0/16', '172.16.5.0/24', 'fd00:1::/64'])
  t.equal(answer(world, '172.16.5.9').kind, 'mesh')
  t.equal(answer(world, '172.16.5.200').kind, 'plain')
  reduce(world, { kind: 'gone', resource: 'pods', object: web() })
  t.same(world.prefixes.asked(), ['10.96.0.0/16'])
})

const cluster80 = service('web', ['10.96.0.7'], { ports: [{ name: 'http', port: 80 }] })
const endpointsOf = (given: Given): unknown => {
  const entry = answer(cluster({ services: [cluster80], ...given }), '10.96.0.7')
  return entry.kind === 'service' ? entry.ports[0]?.endpoints : entry
}
const webSlice = (...endpoints: Parameters<typeof slice>[2][number][]) =>
  slice('web-1', 'web', endpoints, { ports: [{ name: 'http', port: 8080 }] })
const meshEndpoint = { address: asked, port: 8080, zone: 'a', mesh: webAnswer }

const endpoints: [string, Given, unknown][] = [
  [
    'a ready endpoint is a live pod of the Service’s namespace',
    { pods: [web()], endpointslices: [webSlice({ ip: asked, podUid: 'uid-web', ready: true })] },
    [meshEndpoint],
  ],
  [
    'an unknown condition means ready',
    { pods: [web()], endpointslices: [webSlice({ ip: asked, podUid: 'uid-web' })] },
    [meshEndpoint],
  ],
  [
    'an unready endpoint is left out',
    { pods: [web()], endpointslices: [webSlice({ ip: asked, podUid: 'uid-web', ready: false })] },
    [],
  ],
  [
    'a pod without a sidecar is a plain endpoint',
    { pods: [web({ mesh: false })], endpointslices: [webSlice({ ip: asked, podUid: 'uid-web' })] },
    [{ address: asked, port: 8080, zone: 'a' }],
  ],
  [
    'a slice may not lead to a pod of another namespace',
    { pods: [web({ namespace: 'bank' })], endpointslices: [webSlice({ ip: asked, podUid: 'uid-web' })] },
    [],
  ],
  [
    'nor by its bare address',
    { pods: [web({ namespace: 'bank' })], endpointslices: [webSlice({ ip: asked })] },
    [],
  ],
  [
    'nor to a plain pod of another namespace',
    { pods: [web({ namespace: 'bank', mesh: false })], endpointslices: [webSlice({ ip: asked })] },
    [],
  ],
  [
    'a slice without targetRef to a pod of its own namespace is tunnelled to that pod',
    { pods: [web()], endpointslices: [webSlice({ ip: asked })] },
    [meshEndpoint],
  ],
  [
    'an address that changed hands is left out',
    { pods: [web({ uid: 'successor' })], endpointslices: [webSlice({ ip: asked, podUid: 'uid-web' })] },
    [],
  ],
  [
    'an address that two pods claim is left out',
    { pods: [web(), web({ uid: 'other' })], endpointslices: [webSlice({ ip: asked, podUid: 'uid-web' })] },
    [],
  ],
  ['a pod that is gone is left out', { endpointslices: [webSlice({ ip: asked, podUid: 'uid-web' })] }, []],
  [
    'a pod that is gone is left out, even where its address is outside every prefix',
    { endpointslices: [webSlice({ ip: '172.16.5.9', podUid: 'uid-web' })] },
    [],
  ],
  [
    'an address inside the prefixes that no pod has is left out',
    { endpointslices: [webSlice({ ip: '10.1.0.77' })] },
    [],
  ],
  ['another Service’s address is no endpoint', { endpointslices: [webSlice({ ip: '10.96.0.7' })] }, []],
  [
    'a host outside the cluster is a plain endpoint',
    { endpointslices: [webSlice({ ip: '203.0.113.4', zone: 'far' })] },
    [{ address: '203.0.113.4', port: 8080, zone: 'far' }],
  ],
  [
    'a pod in the network of its node is a plain endpoint',
    {
      pods: [pod('agent', { hostNetwork: true, ips: ['192.168.0.1'] })],
      endpointslices: [webSlice({ ip: '192.168.0.1', podUid: 'uid-agent' })],
    },
    [{ address: '192.168.0.1', port: 8080, zone: 'a' }],
  ],
  [
    'endpoints of several slices are joined, each once, by address',
    {
      pods: [web(), pod('two', { ips: ['10.1.0.4'], mesh: false })],
      endpointslices: [
        webSlice({ ip: asked, podUid: 'uid-web' }),
        slice(
          'web-2',
          'web',
          [
            { ip: '10.1.0.4', podUid: 'uid-two' },
            { ip: asked, podUid: 'uid-web' },
          ],
          {
            ports: [{ name: 'http', port: 8080 }],
          },
        ),
      ],
    },
    [{ address: '10.1.0.4', port: 8080, zone: 'a' }, meshEndpoint],
  ],
  [
    'a slice’s port counts only where its name is the Service port’s',
    {
      pods: [web()],
      endpointslices: [slice('web-1', 'web', [{ ip: asked }], { ports: [{ name: 'admin', port: 1 }] })],
    },
    [],
  ],
  [
    'a slice of another namespace with the same Service name is not its',
    {
      pods: [web()],
      endpointslices: [
        slice('web-1', 'web', [{ ip: asked }], { namespace: 'bank', ports: [{ name: 'http', port: 8080 }] }),
      ],
    },
    [],
  ],
]
for (const [name, given, expected] of endpoints) {
  t.test(name, async t => {
    t.same(endpointsOf(given), expected)
  })
}

t.test('each address of a dual-stack Service has the endpoints of its own family', async t => {
  const world = cluster({
    pods: [web({ ips: [asked, 'fd00::5'], mesh: false })],
    services: [service('web', ['10.96.0.7', 'fd96::7'])],
    endpointslices: [
      slice('web-4', 'web', [{ ip: asked, podUid: 'uid-web' }]),
      slice('web-6', 'web', [{ ip: 'fd00:0:0::5', podUid: 'uid-web' }], { addressType: 'IPv6' }),
    ],
  })
  const addresses = ['10.96.0.7', 'fd96::7'].map(address => {
    const entry = answer(world, address)
    return entry.kind === 'service' && entry.ports[0]?.endpoints.map(endpoint => endpoint.address)
  })
  t.same(addresses, [[asked], ['fd00::5']])
})

t.test('a headless Service has no address of its own', async t => {
  const world = cluster({ services: [service('web', ['None'])] })
  t.equal(answer(world, 'None').kind, 'plain')
})

// What the ports of a pod speak: each row is what one port's Services and annotations say, and what its sidecar is told.
import type { V1ServicePort } from '@kubernetes/client-node'
import t from 'tap'
import { reduce } from '../../../../injector/directory/reduce.ts'
import { snapshotFor } from '../../../../injector/directory/snapshot.ts'
import { createWorld, type World } from '../../../../injector/directory/world.ts'
import { type PodParts, pod, service } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

const SELECTOR = { app: 'web' }

type Services = readonly (readonly V1ServicePort[])[]

const worldOf = (services: Services, parts: PodParts): World => {
  const world = createWorld(WORLD_SETTINGS)
  const object = pod('web', { labels: SELECTOR, ...parts })
  reduce(world, { kind: 'set', resource: 'pods', object })
  const items = services.map((ports, index) =>
    service(`s${index}`, [`10.96.0.${index + 1}`], { selector: SELECTOR, ports: [...ports] }),
  )
  reduce(world, { kind: 'list', resource: 'services', items })
  return world
}

const protocols = (world: World) => snapshotFor(world, 'uid-web')?.protocols

const port = (appProtocol?: string, rest: Partial<V1ServicePort> = {}): V1ServicePort => ({
  port: 80,
  targetPort: 8080,
  ...(appProtocol !== undefined && { appProtocol }),
  ...rest,
})

const named = [{ name: 'web', containerPort: 8080 }]

const CASES: readonly {
  readonly it: string
  readonly services?: Services
  readonly pod?: PodParts
  readonly are: { readonly [port: string]: string }
}[] = [
  { it: 'without a declaration', services: [[port()]], are: {} },
  { it: 'of appProtocol http', services: [[port('http')]], are: { 8080: 'http1' } },
  { it: 'of appProtocol kubernetes.io/ws', services: [[port('kubernetes.io/ws')]], are: { 8080: 'http1' } },
  { it: 'of appProtocol kubernetes.io/h2c', services: [[port('kubernetes.io/h2c')]], are: { 8080: 'http2' } },
  { it: 'of appProtocol grpc', services: [[port('grpc')]], are: { 8080: 'http2' } },
  { it: 'of appProtocol https', services: [[port('https')]], are: {} },
  { it: 'of appProtocol kubernetes.io/wss', services: [[port('kubernetes.io/wss')]], are: {} },
  { it: 'of appProtocol tcp', services: [[port('tcp')]], are: {} },
  { it: 'of an appProtocol in other letters', services: [[port('HTTP')]], are: {} },
  { it: 'of an appProtocol with the name of a method', services: [[port('constructor')]], are: {} },
  {
    it: 'declared by a Service without a target port',
    services: [[{ port: 80, appProtocol: 'http' }]],
    are: { 80: 'http1' },
  },
  {
    it: 'declared by a Service over UDP',
    services: [[port('http', { protocol: 'UDP' })]],
    are: {},
  },
  {
    it: 'declared by name',
    services: [[port('http', { targetPort: 'web' })]],
    pod: { ports: named },
    are: { 8080: 'http1' },
  },
  {
    it: 'declared by a name that the pod does not have',
    services: [[port('http', { targetPort: 'toString' })]],
    pod: { ports: named },
    are: {},
  },
  {
    it: 'declared by the name of a UDP port',
    services: [[port('http', { targetPort: 'web' })]],
    pod: { ports: [{ name: 'web', containerPort: 53, protocol: 'UDP' }, ...named] },
    are: { 8080: 'http1' },
  },
  {
    it: 'of several ports of one Service',
    services: [
      [
        port('http'),
        port('grpc', { port: 81, targetPort: 50051 }),
        port(undefined, { port: 82, targetPort: 5432 }),
      ],
    ],
    are: { 8080: 'http1', 50051: 'http2' },
  },
  {
    it: 'on which two Services agree',
    services: [[port('http')], [port('kubernetes.io/ws')]],
    are: { 8080: 'http1' },
  },
  {
    it: 'of which another Service says nothing',
    services: [[port('http')], [port()]],
    are: { 8080: 'http1' },
  },
  { it: 'on which two Services disagree', services: [[port('http')], [port('grpc')]], are: {} },
  { it: 'that one of two Services calls TCP', services: [[port('http')], [port('tcp')]], are: {} },
  {
    it: 'on which the first of three Services disagrees',
    services: [[port('tcp')], [port('http')], [port('http')]],
    are: {},
  },
  {
    it: 'on which two ports of one Service disagree',
    services: [[port('http'), port('grpc', { port: 81 })]],
    are: {},
  },
  {
    it: 'that an annotation declares',
    pod: { config: '{"protocols":{"8080":"http1","50051":"http2"}}' },
    are: { 8080: 'http1', 50051: 'http2' },
  },
  {
    it: 'that an annotation declares otherwise than a Service',
    services: [[port('http')]],
    pod: { config: '{"protocols":{"8080":"http2"}}' },
    are: { 8080: 'http2' },
  },
  {
    it: 'on which Services disagree and an annotation decides',
    services: [[port('http')], [port('tcp')]],
    pod: { config: '{"protocols":{"8080":"http1"}}' },
    are: { 8080: 'http1' },
  },
  {
    it: 'that the sidecar never sees',
    services: [[port('http')]],
    pod: { config: '{"skipInboundPorts":[8080]}' },
    are: {},
  },
  { it: 'that is the sidecar’s own', services: [[port('http', { targetPort: 15008 })]], are: {} },
  {
    it: 'in settings that somebody forged',
    pod: {
      config:
        '{"protocols":{"0":"http1","080":"http1","65536":"http1","x":"http1","15008":"http1","80":"http3","81":null,"82":"http1"}}',
    },
    are: { 82: 'http1' },
  },
  {
    it: 'in settings of another shape',
    pod: { config: '{"protocols":["http1","http2"]}' },
    are: { 1: 'http2' },
  },
  { it: 'in settings that are no JSON', pod: { config: '{' }, are: {} },
]

for (const { it, services = [], pod = {}, are } of CASES)
  t.test(`the protocols of a port ${it} are ${JSON.stringify(are)}`, async t =>
    t.strictSame(protocols(worldOf(services, pod)), are),
  )

t.test('Services that do not select the pod say nothing about it', async t => {
  const world = worldOf([], {})
  const declaring = [port('http')]
  const items = [
    service('other', [], { selector: { app: 'db' }, ports: declaring }),
    service('elsewhere', [], { namespace: 'bank', selector: SELECTOR, ports: declaring }),
    service('nobody', [], { ports: declaring }),
    service('everybody', [], { selector: {}, ports: declaring }),
  ]
  reduce(world, { kind: 'list', resource: 'services', items })
  t.strictSame(protocols(world), {})
  const headless = service('headless', ['None'], { selector: SELECTOR, ports: declaring })
  reduce(world, { kind: 'set', resource: 'services', object: headless })
  t.strictSame(protocols(world), { 8080: 'http1' }, 'control: a headless one that does is heard')
})

t.test('a Service that declares concerns the pods of its namespace whenever it changes', async t => {
  const world = worldOf([], {})
  const set = (ports: V1ServicePort[]) =>
    reduce(world, {
      kind: 'set',
      resource: 'services',
      object: service('s', [], { selector: SELECTOR, ports }),
    })
  t.same([...set([port()]).namespaces], [], 'one that declares nothing does not')
  t.same([...set([port('http')]).namespaces], ['shop'])
  t.same(protocols(world), { 8080: 'http1' })
  t.same([...set([port()]).namespaces], ['shop'], 'it does not any more')
  t.same(protocols(world), {})
  set([port('grpc')])
  const gone = reduce(world, { kind: 'gone', resource: 'services', object: service('s', []) })
  t.same([...gone.namespaces], ['shop'])
  t.same(protocols(world), {})
})

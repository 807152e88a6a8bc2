// Two promises of the world, for any objects: the order in which events of different objects arrive does not matter, and
// whoever asks again only what `reduce` reported always holds the answers of now.
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { answer } from '../../../injector/directory/answer.ts'
import { type Objects, type Resource, reduce } from '../../../injector/directory/reduce.ts'
import { snapshotFor } from '../../../injector/directory/snapshot.ts'
import { type Changes, createWorld, type World } from '../../../injector/directory/world.ts'
import { namespace, node, pod, policies, service, serviceCidr, slice } from '../../support/cluster-objects.ts'

const settings = {
  trustDomain: 'cluster.local',
  systemNamespace: 'system',
  meshMode: 'permissive',
  defaultAction: 'allow',
  prefixes: ['10.9.0.0/16'],
} as const

const PODS = ['10.1.0.1', '10.1.0.2', '172.16.0.1']
const NODE = '192.168.0.1'
const SERVICES = ['10.96.0.1', '10.96.0.2']
const ASKED = [...PODS, ...SERVICES, NODE, '10.9.1.1', '8.8.8.8', '172.16.0.77']
const UIDS = ['uid-p0', 'uid-p1', 'uid-p2']

const spaces = fc.constantFrom('a', 'b')
const nodeNames = fc.constantFrom('n0', 'n1')
const apps = fc.constantFrom('one', 'two')
const policyText = (name: string) =>
  `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}}\nspec: {rules: [{}]}`

/** One object of a resource, and how it is fed to a world. `key` tells objects apart. */
type Fact = {
  readonly key: string
  readonly object: unknown
  feed(world: World, kind: 'set' | 'gone'): Changes
}
const fact = <R extends Resource>(resource: R, object: Objects[R]): Fact => ({
  key: `${resource} ${object.metadata?.namespace}/${object.metadata?.name}`,
  object,
  feed: (world, kind) => reduce(world, { kind, resource, object }),
})

const index = fc.nat(2)
const facts = fc.oneof(
  fc
    .record({
      index,
      ips: fc.subarray([...PODS, NODE], { maxLength: 2 }),
      mesh: fc.boolean(),
      phase: fc.constantFrom('Running' as const, 'Failed' as const),
      node: nodeNames,
      hostNetwork: fc.boolean(),
      labels: apps.map(app => ({ app })),
      ports: fc.constantFrom([], [{ name: 'web', containerPort: 80 }]),
      config: fc.constantFrom('{}', '{"protocols":{"81":"http2"}}'),
    })
    .map(({ index, ...parts }) =>
      fact('pods', pod(`p${index}`, { namespace: index < 2 ? 'a' : 'b', ...parts })),
    ),
  fc
    .record({
      index,
      ips: fc.subarray(SERVICES),
      app: apps,
      appProtocol: fc.constantFrom('http', 'grpc', 'tcp', ''),
      targetPort: fc.constantFrom('web', 81),
    })
    .map(({ index, ips, app, ...port }) => {
      const ports = [{ port: 80, ...port }]
      return fact('services', service(`s${index}`, ips, { namespace: 'a', selector: { app }, ports }))
    }),
  fc
    .record({
      index,
      of: index,
      endpoints: fc.array(
        fc.record({
          ip: fc.constantFrom(...PODS, ...SERVICES, NODE, '8.8.8.8'),
          podUid: fc.constantFrom('', ...UIDS),
          ready: fc.boolean(),
        }),
        { maxLength: 3 },
      ),
    })
    .map(({ index, of, endpoints }) =>
      fact('endpointslices', slice(`e${index}`, `s${of}`, endpoints, { namespace: 'a' })),
    ),
  fc
    .record({
      name: nodeNames,
      ips: fc.subarray([NODE]),
      podCidrs: fc.subarray(['10.1.0.0/24']),
      zone: fc.constantFrom('', 'z'),
    })
    .map(({ name, ...parts }) => fact('nodes', node(name, parts))),
  fc.constantFrom('10.96.0.0/16', '10.97.0.0/16').map(cidr => fact('servicecidrs', serviceCidr(cidr, cidr))),
  fc
    .record({ name: spaces, mode: fc.constantFrom('strict', 'permissive', 'wrong') })
    .map(({ name, mode }) => fact('namespaces', namespace(name, { labels: { 'postern.dev/mode': mode } }))),
  fc
    .record({
      index,
      space: fc.constantFrom('a', 'b', 'system'),
      text: fc.constantFrom(policyText('one'), policyText('two'), 'broken: ['),
    })
    .map(({ index, space, text }) => fact('configmaps', policies(`c${index}`, text, space))),
)

type Event = { readonly kind: 'set' | 'gone'; readonly fact: Fact }
const events: fc.Arbitrary<Event[]> = fc.array(
  fc.record({ kind: fc.constantFrom('set' as const, 'set' as const, 'gone' as const), fact: facts }),
  { maxLength: 25 },
)

const everything = (world: World) => ({
  answers: ASKED.map(address => answer(world, address)),
  snapshots: UIDS.map(uid => snapshotFor(world, uid)),
})

t.test('events of different objects may come in any order', async t => {
  const property = fc.property(events, fc.infiniteStream(fc.nat()), (list, random) => {
    const inOrder = createWorld(settings)
    for (const { kind, fact } of list) fact.feed(inOrder, kind)
    const shuffled = createWorld(settings)
    for (const { kind, fact } of interleaved(list, random)) fact.feed(shuffled, kind)
    return isDeepStrictEqual(everything(shuffled), everything(inOrder))
  })
  fc.assert(property, { numRuns: 500 })
  t.pass()
})

t.test('asking again what was reported as changed is enough', async t => {
  const property = fc.property(events, list => {
    const world = createWorld(settings)
    const held = subscriber(world)
    for (const { kind, fact } of list) held.note(fact.feed(world, kind))
    return isDeepStrictEqual(held.everything(), everything(world))
  })
  fc.assert(property, { numRuns: 500 })
  t.pass()
})

/** Knows the world at first and then only what `reduce` reports. */
function subscriber(world: World) {
  const answers = new Map(ASKED.map(address => [address, answer(world, address)]))
  const snapshots = new Map(UIDS.map(uid => [uid, snapshotFor(world, uid)]))
  const concerns = ({ everything, pods, namespaces }: Changes, uid: string) =>
    everything || pods.has(uid) || namespaces.has(world.pods.get(uid)?.namespace ?? '')
  return {
    note: (changes: Changes) => {
      const addresses = ASKED.filter(address => changes.everything || changes.addresses.has(address))
      for (const address of addresses) answers.set(address, answer(world, address))
      const uids = UIDS.filter(uid => concerns(changes, uid))
      for (const uid of uids) snapshots.set(uid, snapshotFor(world, uid))
    },
    everything: () => ({ answers: [...answers.values()], snapshots: [...snapshots.values()] }),
  }
}

/** Another order of the same events in which each object's own events keep theirs. */
function interleaved(list: Event[], random: Iterator<number>): Event[] {
  const queues = Map.groupBy(list, ({ fact }) => fact.key)
  const result: Event[] = []
  while (queues.size > 0) {
    const keys = [...queues.keys()]
    const key = keys[(random.next().value ?? 0) % keys.length] ?? ''
    const queue = queues.get(key) ?? []
    const next = queue.shift()
    if (next) result.push(next)
    if (queue.length === 0) queues.delete(key)
  }
  return result
}

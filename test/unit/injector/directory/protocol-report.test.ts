// That Services which disagree about a port are told of: where, how often, and when again.
import { setTimeout as delay } from 'node:timers/promises'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { startEmbeddedCluster } from '../../../../embedded/cluster/server.ts'
import { disputesOf, protocolReporter } from '../../../../injector/directory/protocol-report.ts'
import { type Objects, type Resource, reduce } from '../../../../injector/directory/reduce.ts'
import { createWorld } from '../../../../injector/directory/world.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { connectKube } from '../../../../shared/kube/rest.ts'
import { type PodParts, pod, service } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

const SELECTOR = { app: 'web' }

const declaring = (name: string, appProtocol?: string) =>
  service(name, [], {
    selector: SELECTOR,
    ports: [{ port: 80, targetPort: 8080, ...(appProtocol && { appProtocol }) }],
  })

const web = (name: string, parts: PodParts = {}) => pod(name, { labels: SELECTOR, ...parts })

async function reported(t: Test, leads = () => true) {
  const cluster = await startEmbeddedCluster()
  const kube = connectKube({ server: cluster.url, token: cluster.access.adminToken })
  const end = new AbortController()
  t.teardown(async () => {
    end.abort()
    kube[Symbol.dispose]()
    await cluster[Symbol.asyncDispose]()
  })
  await kube.create('/api/v1/namespaces', { metadata: { name: 'shop' } })
  const lines: object[] = []
  const write = (line: string) => void lines.push(JSON.parse(line))
  const log = pino({}, { write })
  const world = createWorld(WORLD_SETTINGS)
  const report = protocolReporter({ world, kube, clock: systemClock, log, signal: end.signal, leads })
  const change =
    (kind: 'set' | 'gone') =>
    <R extends Resource>(resource: R, object: Objects[R]) =>
      report(reduce(world, { kind, resource, object }))
  const events = async () => {
    await delay(50)
    return cluster.store.list('events')
  }
  return { world, lines, events, set: change('set'), gone: change('gone') }
}

t.test('a port that Services disagree about is told of once, in the log and as an Event', async t => {
  const { lines, events, set } = await reported(t)
  for (const name of ['web-1', 'web-2']) set('pods', web(name))
  set('services', declaring('b', 'http'))
  set('services', declaring('silent'))
  t.same(lines, [], 'one statement is none that anybody contradicts')
  set('services', declaring('a', 'tcp'))
  set('pods', web('web-3'))
  const services = [
    { service: 'a', protocol: 'opaque' },
    { service: 'b', protocol: 'http1' },
  ]
  t.match(lines, [{ namespace: 'shop', port: 8080, services, msg: 'services disagree about a port' }])
  t.equal(lines.length, 1)
  const written = await events()
  t.match(written, [
    {
      type: 'Warning',
      reason: 'ProtocolDisputed',
      involvedObject: { kind: 'Service', name: 'a', namespace: 'shop' },
      message: /port 8080 .* a \(opaque\), b \(http1\)/,
    },
  ])
  t.equal(written.length, 1)
})

t.test('a dispute that was settled is told of when it comes again', async t => {
  const { lines, set, gone } = await reported(t)
  set('services', declaring('a', 'http'))
  set('services', declaring('b', 'grpc'))
  set('pods', web('web'))
  t.equal(lines.length, 1, 'by a pod that came last')
  gone('services', declaring('b'))
  set('services', declaring('b', 'grpc'))
  t.equal(lines.length, 2)
})

t.test('who does not lead writes no Event', async t => {
  const { lines, events, set } = await reported(t, () => false)
  set('pods', web('web'))
  for (const [name, protocol] of [
    ['a', 'http'],
    ['b', 'tcp'],
  ] as const)
    set('services', declaring(name, protocol))
  t.equal(lines.length, 1)
  t.same(await events(), [])
})

const UNDISPUTED: readonly (readonly [it: string, pod: PodParts])[] = [
  ['that its annotation decides', { config: '{"protocols":{"8080":"http1"}}' }],
  ['that the sidecar never sees', { config: '{"skipInboundPorts":[8080]}' }],
  ['of a pod without a sidecar', { mesh: false }],
  ['of a pod that has ended', { phase: 'Succeeded' }],
  ['of a pod that only one of the Services selects', { labels: { app: 'web', only: 'one' } }],
]
for (const [it, parts] of UNDISPUTED)
  t.test(`nothing is said of a port ${it}`, async t => {
    const world = createWorld(WORLD_SETTINGS)
    const other = service('b', [], {
      selector: parts.labels ? { app: 'other' } : SELECTOR,
      ports: [{ port: 80, targetPort: 8080, appProtocol: 'grpc' }],
    })
    for (const object of [declaring('a', 'http'), other])
      reduce(world, { kind: 'set', resource: 'services', object })
    reduce(world, { kind: 'set', resource: 'pods', object: web('web', parts) })
    t.same([...disputesOf(world, [...world.pods.values()])], [])
  })

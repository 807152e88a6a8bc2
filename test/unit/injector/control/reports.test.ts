// Replicas of the injector ask each other over real mutual TLS on loopback addresses of their own.
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { otherReplicas } from '../../../../injector/control/replicas.ts'
import { createReports, merge } from '../../../../injector/control/reports.ts'
import { serveControl } from '../../../../injector/control/server.ts'
import { createSidecars } from '../../../../injector/control/sidecars.ts'
import type { Connected } from '../../../../injector/control/stream.ts'
import { createDirectory } from '../../../../injector/directory/directory.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { dialInjector } from '../../../../shared/control/dial.ts'
import type { SidecarReport } from '../../../../shared/control/sidecar-report.ts'
import { live } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { createRegistry } from '../../../../shared/metrics.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { type PodParts, pod } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'
import { federationOf } from '../../../support/federation.ts'
import { revocationsOf } from '../../../support/revocations.ts'

const INJECTOR = parseSpiffeId('spiffe://cluster.local/ns/postern-system/sa/postern-injector').id
const log = createLogger('test', 'error')
const authority = await testAuthority('cluster.local')
const never = new AbortController().signal

const replicaPod = (name: string, ip: string, port: number, parts: PodParts = {}) =>
  pod(name, {
    namespace: 'postern-system',
    serviceAccount: 'postern-injector',
    mesh: false,
    ips: [ip],
    ports: [{ name: 'control', containerPort: port }],
    ...parts,
  })

function directoryOf(t: Test) {
  const end = new AbortController()
  t.teardown(() => end.abort())
  return createDirectory({
    settings: WORLD_SETTINGS,
    clock: systemClock,
    log,
    signal: end.signal,
    delayMs: 0,
  })
}

/** One replica, with its own view of the cluster. */
async function replica(t: Test, name: string, host: string, identity: string = INJECTOR) {
  const directory = directoryOf(t)
  const sidecars = createSidecars({ replica: name, directory, clock: systemClock, log })
  const svid = live((await authority.issue({ identity })).credential())
  const trust = live(authority.bundle)
  const registry = createRegistry()
  const common = { directory, sidecars, svid, trust, registry, clock: systemClock, log, identity: INJECTOR }
  const server = await serveControl({
    ...common,
    host,
    port: 0,
    random: Math.random,
    revocations: revocationsOf(),
    federation: federationOf(),
  })
  t.teardown(() => server[Symbol.asyncDispose]())
  const reports = createReports({ ...common, world: directory.world, replica: name })
  const knows = (...pods: ReturnType<typeof pod>[]) => {
    for (const object of pods) directory.feed({ kind: 'set', resource: 'pods', object })
  }
  return {
    directory,
    sidecars,
    reports,
    registry,
    knows,
    port: server.port,
    gather: () => reports.gather(never),
  }
}

const sidecar = (name: string, parts: Partial<Connected> = {}): Connected => ({
  podUid: `uid-${name}`,
  pod: name,
  namespace: 'shop',
  version: '1.0.0',
  presented: { serial: '0b', notAfter: new Date('2030-01-03T00:00:00.000Z') },
  close: () => undefined,
  ...parts,
})

const STATUS = {
  kind: 'status',
  stateVersion: 1,
  roots: ['ab'.repeat(32)],
  certificateSerial: '0a',
  certificateNotAfter: '2030-01-02T00:00:00.000Z',
  certificateReceivedAt: '2030-01-01T00:00:00.000Z',
  renewal: { failures: 4, code: 'PSTN_CSR_TIMEOUT', since: '2030-01-01T12:00:00.000Z', retrySeconds: 9 },
} as const

t.test('a replica knows the sidecars of the others as of its own', async t => {
  const [one, two] = [
    await replica(t, 'injector-0', '127.0.0.11'),
    await replica(t, 'injector-1', '127.0.0.12'),
  ]
  const both = [
    replicaPod('injector-0', '127.0.0.11', one.port),
    replicaPod('injector-1', '127.0.0.12', two.port),
  ]
  for (const each of [one, two])
    each.knows(...both, pod('web', { ips: ['10.1.0.1'] }), pod('db'), pod('old', { ips: ['10.1.0.3'] }))
  one.sidecars.onConnected(sidecar('web'))
  two.sidecars.onConnected(sidecar('db', { status: STATUS }))
  for (const { gather } of [one, two]) {
    const { reports, missing, unconnected } = await gather()
    t.same(missing, [])
    t.match(
      reports.toSorted((a, b) => a.pod.localeCompare(b.pod)),
      [
        {
          podUid: 'uid-db',
          pod: 'db',
          namespace: 'shop',
          version: '1.0.0',
          replica: 'injector-1',
          roots: STATUS.roots,
          certificate: {
            serial: '0a',
            notAfter: STATUS.certificateNotAfter,
            receivedAt: STATUS.certificateReceivedAt,
          },
          renewal: STATUS.renewal,
        },
        { podUid: 'uid-web', replica: 'injector-0', roots: [], connectedSince: /^20/ },
      ],
    )
    t.same(unconnected, [{ podUid: 'uid-old', pod: 'old', namespace: 'shop', starting: false }])
  }
})

t.test('what a sidecar last said is remembered while its pod lives', async t => {
  const one = await replica(t, 'injector-0', '127.0.0.11')
  one.knows(pod('web', { ips: ['10.1.0.1'] }))
  const web = sidecar('web', { status: STATUS })
  one.sidecars.onConnected(web)
  one.sidecars.onEnded(web)
  t.match(await one.gather(), {
    reports: [],
    unconnected: [{ pod: 'web', last: { certificate: { serial: '0a' }, endedAt: /^20/ } }],
  })
  one.directory.feed({ kind: 'gone', resource: 'pods', object: pod('web') })
  await new Promise(resolve => setTimeout(resolve, 20))
  t.same([...one.sidecars.reports()], [])
})

t.test('the list is for the injector’s own identity alone', async t => {
  const one = await replica(t, 'injector-0', '127.0.0.11')
  one.sidecars.onConnected(sidecar('web'))
  const ask = async (identity: string) => {
    const credential = (await authority.issue({ identity })).credential()
    const address = `127.0.0.11:${one.port}`
    const { socket } = await dialInjector(
      { address, identity: INJECTOR, credential, bundle: authority.bundle, now: Date.now() },
      never,
    )
    const session = connectHttp2(`https://${address}`, { createConnection: () => socket })
    t.teardown(() => session.destroy())
    const stream = session.request({ ':path': '/v1/sidecars' })
    const [headers] = await once(stream, 'response')
    return {
      status: headers[':status'],
      code: headers['postern-code'],
      text: (await stream.toArray()).join(''),
    }
  }
  t.match(await ask(INJECTOR), { status: 200, text: /"pod":"web"/ })
  for (const other of ['ns/shop/sa/web', 'ns/postern-system/sa/default', 'ns/shop/sa/postern-injector']) {
    const { status, code, text } = await ask(`spiffe://cluster.local/${other}`)
    t.match({ status, code }, { status: 403, code: 'PSTN_CONTROL_REJECTED' }, other)
    t.notMatch(text, /"pod"/)
  }
  t.match(one.registry.render(), 'postern_control_refused_total{code="PSTN_CONTROL_REJECTED"} 3')
})

t.test('a replica that cannot answer is missing, with the reason, and the others count', async t => {
  const one = await replica(t, 'injector-0', '127.0.0.11')
  const good = await replica(t, 'injector-1', '127.0.0.12')
  const impostor = await replica(t, 'injector-2', '127.0.0.13', 'spiffe://cluster.local/ns/shop/sa/web')
  const silent = createServer().listen(0, '127.0.0.14')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const silentPort = Object(silent.address()).port
  good.sidecars.onConnected(sidecar('web'))
  one.knows(
    replicaPod('injector-1', '127.0.0.12', good.port),
    replicaPod('injector-2', '127.0.0.13', impostor.port),
    replicaPod('injector-3', '127.0.0.14', silentPort),
    replicaPod('injector-4', '127.0.0.15', 1),
  )
  const started = performance.now()
  const { reports, missing } = await one.gather()
  t.ok(performance.now() - started < 3_000)
  t.match(reports, [{ pod: 'web', replica: 'injector-1' }])
  t.match(missing, [
    { replica: 'injector-2', reason: /^PSTN_PEER_UNEXPECTED/ },
    { replica: 'injector-3', reason: /^PSTN_CONTROL_LOST: no answer within 2000 ms/ },
    { replica: 'injector-4', reason: /^PSTN_CONTROL_LOST: .*ECONNREFUSED/ },
  ])
})

t.test(
  'only live pods of the injector’s namespace and service account are asked, and not oneself',
  async t => {
    const { directory } = await replica(t, 'injector-0', '127.0.0.11')
    const add = (object: ReturnType<typeof pod>) => directory.feed({ kind: 'set', resource: 'pods', object })
    add(replicaPod('injector-0', '10.0.0.1', 15012))
    add(replicaPod('injector-1', '10.0.0.2', 15012))
    add(replicaPod('other-family', 'fd00::3', 15999))
    add(
      replicaPod('elsewhere', '10.0.0.4', 15012, {
        namespace: 'shop',
        labels: { 'app.kubernetes.io/name': 'postern-injector' },
      }),
    )
    add(replicaPod('other-account', '10.0.0.5', 15012, { serviceAccount: 'default' }))
    add(replicaPod('ended', '10.0.0.6', 15012, { phase: 'Failed' }))
    add(replicaPod('starts', '10.0.0.7', 15012, { ips: [] }))
    add(replicaPod('unnamed', '10.0.0.8', 15012, { ports: [] }))
    t.same(otherReplicas(directory.world, 'injector-0'), [
      { name: 'injector-1', address: '10.0.0.2:15012' },
      { name: 'other-family', address: '[fd00::3]:15999' },
      { name: 'unnamed', address: '10.0.0.8:15012' },
    ])
  },
)

t.test('of two reports about one pod the one that is connected counts, else the later', async t => {
  const { world, feed } = directoryOf(t)
  feed({ kind: 'set', resource: 'pods', object: pod('web', { ips: ['10.1.0.1'] }) })
  const report = (replica: string, connectedSince: string, endedAt?: string): SidecarReport => ({
    podUid: 'uid-web',
    pod: 'web',
    namespace: 'shop',
    version: '1',
    replica,
    roots: [],
    connectedSince,
    ...(endedAt && { endedAt }),
  })
  const merged = (...reports: SidecarReport[]) =>
    merge(
      world,
      reports.map(each => ({ reports: [each] })),
    )
  const ended = report('a', '2030-01-01T00:00:00Z', '2030-01-01T05:00:00Z')
  t.match(merged(ended, report('b', '2030-01-01T01:00:00Z')), {
    reports: [{ replica: 'b' }],
    unconnected: [],
  })
  t.match(merged(report('b', '2030-01-01T01:00:00Z'), report('c', '2030-01-01T02:00:00Z')).reports, [
    { replica: 'c' },
  ])
  t.match(merged(ended, report('d', '2030-01-01T04:00:00Z', '2030-01-01T04:30:00Z')), {
    reports: [],
    unconnected: [{ last: { replica: 'a' } }],
  })
})

t.test('ten thousand sidecars are told in a moment', async t => {
  const one = await replica(t, 'injector-0', '127.0.0.11')
  const two = await replica(t, 'injector-1', '127.0.0.12')
  one.knows(replicaPod('injector-1', '127.0.0.12', two.port))
  for (let n = 0; n < 10_000; n++) two.sidecars.onConnected(sidecar(`web-${n}`, { status: STATUS }))
  const started = performance.now()
  const { reports, missing } = await one.gather()
  const ms = Math.round(performance.now() - started)
  t.comment(`${ms} ms`)
  t.same([reports.length, missing], [10_000, []])
})

t.test(
  'how long a certificate lives is read from the one that was presented, not from what is said',
  async t => {
    const { sidecars } = await replica(t, 'injector-0', '127.0.0.11')
    const says = (certificateSerial: string) => ({
      status: { ...STATUS, certificateSerial, certificateNotAfter: '2099-01-01T00:00:00.000Z' },
    })
    sidecars.onConnected(sidecar('web', says('0b')))
    sidecars.onConnected(sidecar('liar', says('0c')))
    const [web, liar] = [...sidecars.reports()].map(({ certificate }) => certificate)
    t.match(web, { serial: '0b', notAfter: '2030-01-03T00:00:00.000Z', presented: true })
    t.match(liar, { serial: '0c', notAfter: '2099-01-01T00:00:00.000Z', presented: undefined })
  },
)

// The server against the sidecar's own client, over real TLS on loopback.
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import { serveControl } from '../../../../injector/control/server.ts'
import { createSidecars } from '../../../../injector/control/sidecars.ts'
import { type ControlStream, openControlStream } from '../../../../proxy/resolve/control-stream.ts'
import { type Clock, systemClock } from '../../../../shared/clock.ts'
import {
  type FromInjector,
  type FromSidecar,
  type Hello,
  KNOWN_FEATURES,
} from '../../../../shared/control/messages.ts'
import { decodeSidecarReport } from '../../../../shared/control/sidecar-report.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { live } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { createRegistry } from '../../../../shared/metrics.ts'
import { NOBODY_REVOKED } from '../../../../shared/revocation.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { clientTlsOptions } from '../../../../shared/tls/contexts.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { node, pod, policies, service, slice } from '../../../support/cluster-objects.ts'
import { directoryOf } from '../../../support/directory.ts'
import { federationOf } from '../../../support/federation.ts'
import { greedyCaller } from '../../../support/greedy-caller.ts'
import { revocationsOf } from '../../../support/revocations.ts'

const INJECTOR = 'spiffe://cluster.local/ns/postern-system/sa/postern-injector'
const WEB = 'spiffe://cluster.local/ns/shop/sa/web'
const DB = 'spiffe://cluster.local/ns/shop/sa/db'
const log = createLogger('test', 'error')
const authority = await testAuthority('cluster.local')
const hello: Hello = { kind: 'hello', podUid: 'uid-web', version: 'test', features: ['l4'] }

/** Five seconds pass in fifty milliseconds: heartbeats and waits are seen in a test's time. */
const hurried: Clock = {
  ...systemClock,
  monotonic: () => performance.now() * 100,
  sleep: (ms, signal) => systemClock.sleep(ms / 100, signal),
}

async function start(
  t: Test,
  { clock = systemClock, revocations = revocationsOf(), federation = federationOf() } = {},
) {
  const end = new AbortController()
  const web = pod('web', { ips: ['127.0.0.1'] })
  const directory = directoryOf({ web, clock, signal: end.signal })
  const svid = live((await authority.issue({ identity: INJECTOR })).credential())
  const trust = live(authority.bundle)
  const registry = createRegistry()
  const sidecars = createSidecars({ replica: 'injector-0', directory, clock, log })
  const server = await serveControl({
    identity: parseSpiffeId(INJECTOR).id,
    sidecars,
    host: '127.0.0.1',
    port: 0,
    svid,
    trust,
    revocations,
    federation,
    directory,
    clock,
    log,
    random: Math.random,
    registry,
  })
  t.teardown(async () => {
    end.abort()
    await server[Symbol.asyncDispose]()
  })
  const dial = async (identity = WEB, from = authority): Promise<ControlStream> => {
    const credential = (await from.issue({ identity })).credential()
    const target = {
      address: `127.0.0.1:${server.port}`,
      identity: parseSpiffeId(INJECTOR).id,
      credential,
      bundle: authority.bundle,
      now: Date.now(),
    }
    const stream = await openControlStream(target, end.signal)
    t.teardown(() => stream[Symbol.dispose]())
    return stream
  }
  return { directory, revocations, server, sidecars, dial, svid, trust, registry }
}

/** Says hello and more, and reads until `enough` messages that are no heartbeats. */
async function read(
  stream: ControlStream,
  enough: number,
  ...messages: FromSidecar[]
): Promise<FromInjector[]> {
  for (const message of messages) stream.send(message)
  const received: FromInjector[] = []
  if (enough === 0) return received
  for await (const message of stream.received()) {
    if (message.kind === 'addresses' && message.entries.length === 0) continue
    received.push(message)
    if (received.length === enough) return received
  }
  return received
}

const ended = (stream: ControlStream, ...messages: FromSidecar[]): Promise<string> =>
  read(stream, Number.POSITIVE_INFINITY, ...messages).then(
    () => 'ended',
    thrown => (thrown instanceof PosternError ? `${thrown.code}: ${thrown.message}` : String(thrown)),
  )

/** Messages as they come, for a test that changes things in between. */
function inbox(stream: ControlStream) {
  const messages = stream.received()
  return async (): Promise<FromInjector> => {
    for (;;) {
      const { value, done } = await messages.next()
      if (done) throw new Error('the stream has ended')
      if (value.kind === 'state' || value.entries.length > 0) return value
    }
  }
}

t.test('a sidecar gets its state, then answers to what it subscribes to', async t => {
  const { dial, sidecars } = await start(t)
  const stream = await dial()
  const messages = await read(stream, 2, hello, { kind: 'subscribe', addresses: ['127.0.0.1', '10.1.0.9'] })
  t.match(messages, [
    {
      kind: 'state',
      version: 1,
      policy: { mode: { inbound: 'permissive' }, policies: [], defaultAction: 'allow' },
      trust: [authority.bundle],
      prefixes: ['10.1.0.0/16', '127.0.0.0/24'],
    },
    {
      kind: 'addresses',
      entries: [
        { kind: 'mesh', address: '127.0.0.1', pod: { identity: WEB } },
        { kind: 'unknown', address: '10.1.0.9' },
      ],
    },
  ])
  t.match(sidecars.connected(), [{ podUid: 'uid-web', pod: 'web', namespace: 'shop', version: 'test' }])
})

t.test('what came after the first version is told to those who say that they know it', async t => {
  const { dial, directory } = await start(t)
  const object = node('node-1', { podCidrs: ['10.1.0.0/16'], zone: 'west' })
  directory.feed({ kind: 'set', resource: 'nodes', object })
  const [old] = await read(await dial(), 1, hello)
  const keys = ['kind', 'policy', 'prefixes', 'trust', 'version']
  t.same(
    Object.keys(old ?? {}).sort(),
    keys,
    'a sidecar of 0.1 would refuse the whole state for one key more',
  )
  const [zoned] = await read(await dial(), 1, { ...hello, features: ['l4', 'zone'] })
  t.strictSame(zoned, { ...old, zone: 'west' })
  const [present] = await read(await dial(), 1, { ...hello, features: KNOWN_FEATURES })
  const empty = {
    protocols: {},
    revoked: NOBODY_REVOKED,
    outside: [],
    requestAuthentication: [],
    partners: [],
  }
  t.strictSame(present, { ...old, zone: 'west', ...empty })
})

t.test('who is revoked is pushed in full at each change, to those who know of it', async t => {
  const { dial, revocations } = await start(t)
  const [stream, old] = [await dial(), await dial()]
  const [next, oldNext] = [inbox(stream), inbox(old)]
  stream.send({ ...hello, features: KNOWN_FEATURES })
  t.match(await next(), { version: 1, revoked: NOBODY_REVOKED })
  revocations.revoke({ identities: ['spiffe://cluster.local/ns/bank/sa/teller'] })
  t.match(await next(), {
    version: 2,
    revoked: { serials: [], identities: ['spiffe://cluster.local/ns/bank/sa/teller'], pods: [] },
  })
  revocations.revoke({})
  t.match(await next(), { version: 3, revoked: NOBODY_REVOKED })
  old.send(hello)
  t.notOk('revoked' in (await oldNext()))
})

t.test('an order to renew is told to the pods that it is for', async t => {
  const { dial, revocations } = await start(t)
  const stream = await dial()
  const next = inbox(stream)
  stream.send({ ...hello, features: KNOWN_FEATURES })
  t.notOk('renew' in (await next()))
  const order = { before: '2026-11-21T12:00:00Z', withinSeconds: 60, by: 'test' }
  const pod = { kind: 'pod', namespace: 'shop', ...order } as const
  revocations.order({ ...pod, name: 'other', uid: 'uid-other' })
  revocations.order({ ...pod, name: 'web', uid: 'uid-web' })
  t.match(await next(), { version: 2, renew: { before: order.before, withinSeconds: 60 } })
})

t.test('a revoked certificate loses its stream at once and comes in no more; another goes on', async t => {
  const { dial, directory, revocations, registry } = await start(t)
  directory.feed({ kind: 'set', resource: 'pods', object: pod('db', { ips: ['127.0.0.1'] }) })
  const leaf = await authority.issue({ identity: WEB })
  const asRevoked = () => dial(WEB, { ...authority, issue: async () => leaf })
  const [stream, other] = [await asRevoked(), await dial(DB)]
  const next = inbox(stream)
  stream.send(hello)
  await next()
  const othersNext = inbox(other)
  other.send({ ...hello, podUid: 'uid-db', features: KNOWN_FEATURES })
  await othersNext()
  const end = next()
  revocations.revoke({ serials: [leaf.serial] })
  await t.rejects(end, { code: 'PSTN_CERT_REVOKED' })
  t.match(await othersNext(), { version: 2, revoked: { serials: [leaf.serial] } })
  t.match(await ended(await asRevoked(), hello), /^PSTN_CERT_REVOKED/)
  t.match(registry.render(), 'postern_control_refused_total{code="PSTN_PEER_REVOKED"} 2')
})

t.test('a revoked pod whose certificate does not name it is known by its hello', async t => {
  const { dial, revocations } = await start(t)
  const stream = await dial()
  const next = inbox(stream)
  stream.send(hello)
  await next()
  revocations.revoke({ pods: ['uid-web'] })
  await t.rejects(next())
  t.match(await ended(await dial(), hello), /^PSTN_CERT_REVOKED.*the pod uid-web is revoked/)
})

t.test('while nobody knows who is revoked, nobody is told anything', async t => {
  const { dial } = await start(t, { revocations: revocationsOf(null) })
  t.match(await ended(await dial(), hello), /PSTN_REVOCATION_INVALID/)
})

t.test('a Service that declares what the pod speaks reaches its sidecar', async t => {
  const { dial, directory } = await start(t)
  const labels = { app: 'web' }
  directory.feed({ kind: 'set', resource: 'pods', object: pod('web', { ips: ['127.0.0.1'], labels }) })
  const stream = await dial()
  const next = inbox(stream)
  stream.send({ ...hello, features: KNOWN_FEATURES })
  t.match(await next(), { kind: 'state', protocols: {} })
  const object = service('web', [], { selector: labels, ports: [{ port: 80, appProtocol: 'grpc' }] })
  directory.feed({ kind: 'set', resource: 'services', object })
  t.match(await next(), { kind: 'state', version: 2, protocols: { 80: 'http2' } })
  directory.feed({ kind: 'gone', resource: 'services', object })
  t.strictSame(protocolsIn(await next()), {})
})

const protocolsIn = (message: FromInjector) => (message.kind === 'state' ? message.protocols : undefined)

t.test('what a Service says beyond its endpoints is told in the same way', async t => {
  const { dial, directory } = await start(t)
  const web = service('sticky', ['10.96.0.77'])
  const object = { ...web, spec: { ...web.spec, sessionAffinity: 'ClientIP' } }
  directory.feed({ kind: 'set', resource: 'services', object })
  const subscribe = { kind: 'subscribe', addresses: ['10.96.0.77'] } as const
  const [, old] = await read(await dial(), 2, hello, subscribe)
  t.same(old, {
    kind: 'addresses',
    entries: [
      {
        kind: 'service',
        address: '10.96.0.77',
        service: 'shop/sticky',
        ports: [{ port: 80, endpoints: [] }],
      },
    ],
  })
  const knowing = { ...hello, features: ['l4', 'affinitySeconds'] }
  const [, present] = await read(await dial(), 2, knowing, subscribe)
  t.match(present, { entries: [{ kind: 'service', affinitySeconds: 10_800 }] })
})

t.test('changes are pushed, and only those that concern the sidecar', async t => {
  const { dial, directory } = await start(t)
  const stream = await dial()
  const next = inbox(stream)
  stream.send(hello)
  stream.send({ kind: 'subscribe', addresses: ['10.1.0.9', '10.96.0.1'] })
  await next()
  await next()
  directory.feed({ kind: 'set', resource: 'pods', object: pod('stranger', { ips: ['10.1.0.77'] }) })
  directory.feed({ kind: 'set', resource: 'configmaps', object: policies('x', 'broken: [', 'elsewhere') })
  directory.feed({ kind: 'set', resource: 'pods', object: pod('db', { ips: ['10.1.0.9'] }) })
  t.match(await next(), {
    kind: 'addresses',
    entries: [{ kind: 'mesh', address: '10.1.0.9', pod: { name: 'db' } }],
  })

  directory.feed({ kind: 'set', resource: 'services', object: service('db', ['10.96.0.1']) })
  directory.feed({
    kind: 'set',
    resource: 'endpointslices',
    object: slice('db-1', 'db', [{ ip: '10.1.0.9', podUid: 'uid-db' }]),
  })
  // The Service's own address is inside no prefix until somebody has it.
  const both = [await next(), await next()].sort((a, b) => (a.kind < b.kind ? -1 : 1))
  t.match(both, [
    { kind: 'addresses', entries: [{ kind: 'service', ports: [{ endpoints: [{ address: '10.1.0.9' }] }] }] },
    { kind: 'state', version: 2 },
  ])

  const yaml =
    'apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: none}\nspec: {}'
  directory.feed({ kind: 'set', resource: 'configmaps', object: policies('mine', yaml) })
  t.match(await next(), { kind: 'state', version: 3, policy: { policies: [{ name: 'shop/none' }] } })

  stream.send({ kind: 'subscribe', addresses: ['10.96.0.1'] })
  stream.send({ kind: 'subscribe', addresses: ['10.96.0.1', '10.1.0.9'] })
  t.match(await next(), { entries: [{ address: '10.1.0.9' }] }, 'given up and asked again: answered again')
})

t.test('a new root reaches the sidecar at once', async t => {
  const { dial, trust } = await start(t)
  const next = await testAuthority('cluster.local')
  const stream = await dial()
  const read = inbox(stream)
  stream.send(hello)
  await read()
  trust.set({ trustDomain: 'cluster.local', roots: [authority.root, next.root] })
  t.match(await read(), {
    kind: 'state',
    version: 2,
    trust: [{ roots: [authority.root, next.root].toSorted() }],
  })
})

t.test(
  'the removal of a root ends what it vouched for, and is told to all others on their streams',
  async t => {
    const { dial, directory, trust } = await start(t)
    directory.feed({ kind: 'set', resource: 'pods', object: pod('db', { ips: ['127.0.0.1'] }) })
    const next = await testAuthority('cluster.local', 'CN=the next root')
    trust.set({ trustDomain: 'cluster.local', roots: [authority.root, next.root] })
    const [former, later] = [await dial(), await dial(DB, next)]
    const [formerRead, laterRead] = [inbox(former), inbox(later)]
    former.send(hello)
    later.send({ ...hello, podUid: 'uid-db' })
    await Promise.all([formerRead(), laterRead()])
    const started = performance.now()
    trust.set({ trustDomain: 'cluster.local', roots: [next.root] })
    t.match(await laterRead(), { kind: 'state', version: 2, trust: [{ roots: [next.root] }] })
    t.ok(performance.now() - started < 1_000, 'in the same second')
    await t.rejects(drained(formerRead), { code: 'PSTN_CONTROL_REJECTED', message: /PSTN_PEER_UNTRUSTED/ })
    await t.rejects(
      dial().then(again => drained(inbox(again))),
      /PSTN_PEER_UNTRUSTED/,
      'nor does it come back',
    )
  },
)

t.test('after a root was removed, whoever comes under one that is newer still is let in', async t => {
  const { dial, directory, trust } = await start(t)
  directory.feed({ kind: 'set', resource: 'pods', object: pod('db', { ips: ['127.0.0.1'] }) })
  const gone = await testAuthority('cluster.local', 'CN=a root that goes')
  const next = await testAuthority('cluster.local', 'CN=the next root')
  trust.set({ trustDomain: 'cluster.local', roots: [authority.root, gone.root] })
  trust.set({ trustDomain: 'cluster.local', roots: [authority.root] })
  trust.set({ trustDomain: 'cluster.local', roots: [authority.root, next.root] })
  const stream = await dial(DB, next)
  const read = inbox(stream)
  stream.send({ ...hello, podUid: 'uid-db' })
  t.match(await read(), { kind: 'state' })
  await t.rejects(
    dial(DB, gone).then(again => drained(inbox(again))),
    /PSTN_PEER_UNTRUSTED/,
  )
})

/** The last state may have been on its way. */
async function drained(read: () => Promise<FromInjector>): Promise<never> {
  for (;;) await read()
}

t.test('the present SVID is shown to whoever connects after a rotation', async t => {
  const { dial, svid } = await start(t)
  const first = (await dial()).injector.serial
  const renewed = (await authority.issue({ identity: INJECTOR })).credential()
  svid.set(renewed)
  const second = (await dial()).injector.serial
  t.not(second, first)
  t.equal(second, renewed.serial)
})

t.test('what a sidecar says of itself is kept', async t => {
  const { dial, sidecars } = await start(t)
  const stream = await dial()
  const status = { kind: 'status', stateVersion: 1, roots: [authority.rootFingerprint] } as const
  const subscribe = { kind: 'subscribe', addresses: ['127.0.0.1'] } as const
  await read(stream, 2, hello, status, subscribe)
  t.same(sidecars.connected()[0]?.status, status)
})

t.test('what a sidecar was told, has applied, and does not know is reported', async t => {
  const { dial, sidecars } = await start(t)
  const stream = await dial()
  const status = { kind: 'status', stateVersion: 1, roots: [authority.rootFingerprint] } as const
  const subscribe = { kind: 'subscribe', addresses: ['127.0.0.1'] } as const
  await read(stream, 2, { ...hello, features: ['l4'] }, status, subscribe)
  const [report] = sidecars.reports()
  t.match(report, { state: { version: 1, applied: 1, toldAt: /^20/ }, lacks: ['http', 'trustDomains'] })
  t.same(decodeSidecarReport(JSON.parse(JSON.stringify(report)), 'report'), report)
})

t.test('a sidecar that comes back takes its former stream’s place', async t => {
  const { dial, sidecars } = await start(t)
  const first = await dial()
  await read(first, 1, hello)
  const second = await dial()
  await read(second, 1, hello)
  t.equal(sidecars.connected().length, 1)
  t.match(await ended(first), /^PSTN_CONTROL_LOST/)
})

t.test('refused', async t => {
  const foreign = await testAuthority('cluster.local')
  const refusal = async (t: Test, first: FromSidecar, identity = WEB) => {
    const { dial, registry } = await start(t, { clock: hurried })
    return { reason: await ended(await dial(identity), first), metrics: registry.render() }
  }
  await t.test('another service account', async t => {
    const { reason, metrics } = await refusal(t, hello, 'spiffe://cluster.local/ns/shop/sa/db')
    t.match(
      reason,
      /^PSTN_CONTROL_REJECTED: .*403 \(PSTN_CONTROL_REJECTED\): the certificate is .*sa\/db, pod shop\/web is/,
    )
    t.match(metrics, 'postern_control_refused_total{code="PSTN_CONTROL_REJECTED"} 1')
  })
  await t.test('a pod that does not become known in time', async t => {
    const { reason } = await refusal(t, { ...hello, podUid: 'nobody' })
    t.match(reason, /^PSTN_CONTROL_REJECTED: .*no pod has the uid nobody/)
  })
  await t.test('a subscription before the hello', async t => {
    const { reason } = await refusal(t, { kind: 'subscribe', addresses: [] })
    t.match(reason, /403 \(PSTN_CONTROL_MALFORMED\): subscribe came before the hello/)
  })
  await t.test('no hello at all', async t => {
    const { dial } = await start(t, { clock: hurried })
    t.match(await ended(await dial()), /no hello within/)
  })
  await t.test('a foreign root', async t => {
    const { dial } = await start(t)
    const end = await dial(WEB, foreign).then(stream => ended(stream, hello))
    t.match(end, /PSTN_CONTROL_REJECTED: .*PSTN_PEER_UNTRUSTED/)
  })
})

t.test('a pod that becomes known in a moment is waited for', async t => {
  const { dial, directory } = await start(t)
  const stream = await dial('spiffe://cluster.local/ns/shop/sa/late')
  const received = read(stream, 1, { ...hello, podUid: 'uid-late' })
  await new Promise(resolve => setTimeout(resolve, 100))
  directory.feed({ kind: 'set', resource: 'pods', object: pod('late', { ips: [] }) })
  await new Promise(resolve => setTimeout(resolve, 100))
  directory.feed({ kind: 'set', resource: 'pods', object: pod('late', { ips: ['127.0.0.1'] }) })
  directory.feed({ kind: 'gone', resource: 'pods', object: pod('web') })
  t.match(await received, [{ kind: 'state' }])
})

t.test('the stream ends with its pod', async t => {
  const { dial, directory, sidecars } = await start(t)
  const stream = await dial()
  const over = ended(stream, hello)
  await new Promise(resolve => setTimeout(resolve, 100))
  t.equal(sidecars.connected().length, 1)
  directory.feed({ kind: 'gone', resource: 'pods', object: pod('web') })
  t.match(await over, /^PSTN_CONTROL_LOST/)
  await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(sidecars.connected().length, 0)
})

t.test('heartbeats flow, and a sidecar that sends none is given up', async t => {
  const { dial, sidecars } = await start(t, { clock: hurried })
  const stream = await dial()
  stream.send(hello)
  let heartbeats = 0
  await t.rejects(async () => {
    for await (const message of stream.received()) {
      if (message.kind === 'addresses' && message.entries.length === 0) heartbeats += 1
    }
  })
  t.ok(heartbeats >= 2, `${heartbeats} heartbeats`)
  t.equal(sidecars.connected().length, 0)
})

t.test('too many addresses end the stream', async t => {
  const { dial } = await start(t)
  const addresses = Array.from({ length: 16_385 }, (_, index) => `10.2.${index >> 8}.${index & 255}`)
  const stream = await dial()
  t.match(await ended(stream, hello, { kind: 'subscribe', addresses }), /^PSTN_CONTROL_LOST/)
})

t.test('a reader that stalls is cut off', async t => {
  const { server, directory, sidecars } = await start(t, { clock: hurried })
  const credential = (await authority.issue({ identity: WEB })).credential()
  const options = { ...clientTlsOptions(credential, authority.bundle), host: '127.0.0.1', port: server.port }
  const socket = connectTls(options)
  await once(socket, 'secureConnect')
  const session = connectHttp2('https://postern', { createConnection: () => socket })
  t.teardown(() => session.destroy())
  const stream = session.request({ ':method': 'POST', ':path': '/v1/control' })
  // Not once(): its cut may come as an error first.
  const closed = new Promise(resolve => stream.once('close', resolve))
  stream.on('error', () => undefined)
  stream.write(`${JSON.stringify(hello)}\n`)
  const addresses = Array.from({ length: 8_000 }, (_, index) => `10.1.${index >> 8}.${index & 255}`)
  stream.write(`${JSON.stringify({ kind: 'subscribe', addresses })}\n`)
  const beat = setInterval(() => stream.write('{"kind":"status","stateVersion":0,"roots":[]}\n'), 20)
  t.teardown(() => clearInterval(beat))
  let round = 0
  const change = setInterval(() => {
    round += 1
    const items = addresses.map((ip, index) =>
      pod(`p${index}`, { uid: `u${index}`, ips: [ip], serviceAccount: `s${round}` }),
    )
    directory.feed({ kind: 'list', resource: 'pods', items: [pod('web', { ips: ['127.0.0.1'] }), ...items] })
  }, 50)
  t.teardown(() => clearInterval(change))
  stream.pause()
  await closed
  t.ok(round > 0)
  t.equal(sidecars.connected().length, 0)
})

t.test('draining ends every stream within the spread and takes no new one', async t => {
  const { dial, server } = await start(t)
  const stream = await dial()
  const over = ended(stream, hello)
  await new Promise(resolve => setTimeout(resolve, 100))
  const started = performance.now()
  await server.drain(300)
  t.ok(performance.now() - started < 2_500)
  t.match(await over, /^PSTN_CONTROL_LOST/)
  await t.rejects(dial(), { code: 'PSTN_CONTROL_LOST' })
})

t.test('a pod has its share of connections, and what is beyond is counted', async t => {
  const { server, registry } = await start(t)
  const greedy = await greedyCaller(t, server.port, 100)
  await new Promise(resolve => setTimeout(resolve, 200))
  t.equal(greedy.open().length, 32)
  t.match(registry.render(), 'postern_control_refused_total{code="PSTN_LIMIT"} 68')
})

t.test('other paths and methods are not found', async t => {
  const { server } = await start(t)
  const credential = (await authority.issue({ identity: WEB })).credential()
  const socket = connectTls({
    ...clientTlsOptions(credential, authority.bundle),
    host: '127.0.0.1',
    port: server.port,
  })
  await once(socket, 'secureConnect')
  const session = connectHttp2('https://postern', { createConnection: () => socket })
  t.teardown(() => session.destroy())
  for (const headers of [{ ':path': '/v1/control' }, { ':method': 'POST', ':path': '/' }]) {
    const stream = session.request(headers)
    const [answer] = await once(stream, 'response')
    t.equal(answer[':status'], 404)
    stream.resume()
  }
})

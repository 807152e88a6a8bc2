// Hosts outside the mesh that legacy applications dial in plaintext and their sidecars with TLS (docs/outside-hosts.md).
// The hosts are real servers at an address outside the cluster's prefixes, on the node.
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import type { V1ConfigMap, V1Service } from '@kubernetes/client-node'
import t from 'tap'
import { POLICY_LABEL, SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { until } from '../kube/support/installation.ts'
import type { TestAuthority } from '../support/certificates.ts'
import type { LogLine, RunningPod } from '../support/namespace-kubelet.ts'
import { ip } from '../support/netns.ts'
import { startApplication } from '../support/netns-applications.ts'
import { startAgent } from '../support/netns-client.ts'
import { converse, type Script, type Transcript } from '../support/netns-conversation.ts'
import { isConnection, type Mesh, metricsOf, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole } from '../support/netns-pair.ts'
import {
  listenPlain,
  listenTls,
  opensslServer,
  outsideAuthority,
  outsideDocument,
  outsideTls,
} from '../support/outside-host.ts'
import { releasedSources } from '../support/released.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'

const HOST = { ipv4: '203.0.113.7', ipv6: '2001:db8:113::7' } as const
const ADDRESSES = [`${HOST.ipv4}/32`, `${HOST.ipv6}/128`]
const CLIENT_ID = 'spiffe://cluster.local/ns/shop/sa/client'
const CONFIGMAPS = '/api/v1/namespaces/shop/configmaps'
const HOUR_MS = 3_600_000

const lacking = requireNetns() || requireApiServer() || requireCommands('openssl', 'git', 'tar')

/** All that came, in hex. */
type Recorder = { readonly heard: () => string }

const recorder = async (stack: AsyncDisposableStack, port: number): Promise<Recorder> => {
  const chunks: Buffer[] = []
  const onConnection = (socket: Socket) =>
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      socket.write('500 what?\r\n')
    })
  stack.use(await listenPlain(onConnection, { host: '::', port }))
  return { heard: () => Buffer.concat(chunks).toString('hex') }
}

/** Answers with what it knows of its client, as netns-agent's `dial` reads it. */
const introduce = (by: string) => (socket: TLSSocket) => {
  const { subjectaltname, subject } = socket.getPeerCertificate()
  const pod = subject?.CN
  const sni = Reflect.get(socket, 'servername')
  socket.end(JSON.stringify({ by, peer: socket.remoteAddress, identity: subjectaltname, pod, sni }))
}

t.test('declared hosts outside the mesh', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  await ip(mesh.network.node, [`addr add ${HOST.ipv4}/32 dev br0`, `addr add ${HOST.ipv6}/128 dev br0 nodad`])
  const outside = await outsideAuthority()
  const ports = await startHosts(mesh, outside, stack)
  const [client, strict] = await Promise.all([
    mesh.start('client'),
    mesh.start('strict', { annotations: { 'postern.dev/outbound': 'require' } }),
  ])
  const [app, strictApp, scripted] = await Promise.all([
    startAgent(client.namespace, { uid: 1000 }),
    startAgent(strict.namespace, { uid: 1000 }),
    startApplication(client.namespace),
  ])
  const declared = { host: 'api.partner.example', addresses: ADDRESSES, ports: Object.values(ports.tls) }
  const mutual = outsideDocument('partner', outside, { ...declared, mode: 'MUTUAL' })
  const declare = (name: string, text: string) =>
    mesh.kube.create(CONFIGMAPS, {
      metadata: { name, labels: { [POLICY_LABEL]: 'true' } },
      data: { 'outside.yaml': text },
    })
  const answered = (port = ports.tls.mutual, host: string = HOST.ipv4) => app.dial({ host, port })
  const isAnswered = async () => typeof (await answered()) !== 'string'

  await t.test('control: what nobody declared is dialled in plaintext, which its host can read', async t => {
    const saw = scripted.dial({ host: HOST.ipv4, port: ports.tls.recorder, script: SPEAK })
    await until(async () => ports.record.heard().length === 2000)
    t.notMatch(ports.record.heard(), TLS_RECORD)
    t.equal(ports.record.heard().length, 2000, 'a thousand bytes and no handshake')
    await saw
    t.equal(typeof (await answered()), 'string', 'and a TLS server does not understand it')
    await client.line(isConnection({ direction: 'outbound', via: 'plaintext' }))
    t.match(await strictApp.dial({ host: HOST.ipv4, port: ports.tls.mutual }), 'ECONNRESET')
    await strict.line(isConnection({ code: 'PSTN_OUTBOUND_REQUIRED' }))
  })

  await t.test(
    'once declared, a plaintext connection that lives is closed, and what follows is TLS',
    async t => {
      const before = scripted.dial({ host: HOST.ipv4, port: ports.tls.recorder, script: UNTIL_RESET })
      await until(async () => ports.record.heard().length === 2002)
      await declare('partner', mutual)
      t.match(await before, { reset: true })
      const line = await client.line(isConnection({ code: 'PSTN_OUTSIDE_CHANGED' }))
      t.match(line, { via: 'plaintext', outcome: 'closed' })
      const heard = ports.record.heard().length
      t.equal(await answered(ports.tls.recorder), 'ECONNRESET', 'whoever does not speak TLS is refused')
      t.match(ports.record.heard().slice(heard), TLS_RECORD)
      await client.line(isConnection({ code: 'PSTN_OUTSIDE_TLS', outcome: 'refused' }))
    },
  )

  for (const family of ['ipv4', 'ipv6'] as const)
    await t.test(`${family}: the host sees the identity of an application that knows of no TLS`, async t => {
      await until(isAnswered)
      t.match(await answered(ports.tls.mutual, HOST[family]), {
        by: 'partner',
        identity: `URI:${CLIENT_ID}`,
        pod: 'client',
        sni: 'api.partner.example',
      })
      const isThis = isConnection({ via: 'tls', outcome: 'ok' })
      const line = await client.line(
        line => isThis(line) && Reflect.get(Object(line.destination), 'address') === HOST[family],
      )
      t.match(line, { destination: { port: ports.tls.mutual, host: 'api.partner.example' } })
    })

  await t.test('OpenSSL’s server, which demands the certificate, is answered in its own words', async t => {
    // s_server -rev answers each line backwards.
    const answer = await reversed(client, ports.tls.openssl)
    t.equal(answer, 'nretsop\n')
  })

  await t.test('`require` lets pass what is declared', async t => {
    await until(
      async () => typeof (await strictApp.dial({ host: HOST.ipv4, port: ports.tls.mutual })) !== 'string',
    )
    t.match(await strictApp.dial({ host: HOST.ipv4, port: ports.tls.mutual }), {
      identity: 'URI:spiffe://cluster.local/ns/shop/sa/strict',
    })
    t.equal(await strictApp.dial({ host: HOST.ipv4, port: ports.undeclared }), 'ECONNRESET')
  })

  for (const [name, code] of [
    ['stranger', 'PSTN_OUTSIDE_UNTRUSTED'],
    ['expired', 'PSTN_OUTSIDE_UNTRUSTED'],
    ['misnamed', 'PSTN_OUTSIDE_NAME'],
    ['talker', 'PSTN_OUTSIDE_TLS'],
    ['silent', 'PSTN_OUTSIDE_TLS'],
    ['closed', 'PSTN_DESTINATION_UNREACHABLE'],
    ['refuser', 'PSTN_OUTSIDE_REFUSED'],
  ] as const)
    await t.test(`${name}: ${code}, and no byte of the application`, async t => {
      const port = ports.tls[name]
      const dialled = scripted.dial({ host: HOST.ipv4, port, script: UNTIL_RESET, timeoutMs: 15_000 })
      const isThis = (line: LogLine) =>
        line.msg === 'connection' && Reflect.get(Object(line.destination), 'port') === port
      t.match(await client.line(isThis), { code, via: 'tls' })
      t.match(await dialled, { received: 0 })
    })

  await t.test('10 MB each way arrive whole, and each direction ends on its own', async t => {
    const saw = await scripted.dial({ host: HOST.ipv4, port: ports.tls.echo, script: [...BULK, ...CLOSE] })
    t.ok(isWhole(saw), JSON.stringify(saw))
    t.ok(isWhole(await ports.served()), 'as the host sees it')
  })

  await t.test('a reset by the application reaches the host as one', async t => {
    const script: Script = [{ do: 'send', bytes: 10 }, { do: 'wait', ms: 50 }, { do: 'reset' }]
    await scripted.dial({ host: HOST.ipv4, port: ports.tls.cut, script })
    t.equal(await ports.cut, 'ECONNRESET')
  })

  await t.test('metrics tell it apart from tunnel and plaintext', async t => {
    const metric = await metricsOf(client)
    t.ok(metric('postern_connections_opened_total{direction="outbound",via="tls"}') >= 4)
    t.ok(metric('postern_connections_refused_total{direction="outbound",code="PSTN_OUTSIDE_NAME"}') >= 1)
  })

  await t.test('a second document for the same place: neither is used, until one goes', async t => {
    const simple = outsideDocument('other', outside, {
      ...declared,
      mode: 'SIMPLE',
      ports: [ports.tls.mutual],
    })
    await declare('other', simple)
    await until(async () => (await answered()) === 'ECONNRESET')
    const { reason } = await client.line(line => line.code === 'PSTN_OUTSIDE_AMBIGUOUS')
    t.match(reason, /shop\/other, shop\/partner all declare 203\.0\.113\.7:/)
    await mesh.kube.delete(`${CONFIGMAPS}/other`)
    await until(isAnswered)
  })

  await t.test('a Service without a selector is dialled by its own address', async t => {
    const address = await serviceTo(mesh, ports.tls.mutual)
    const spec = { ...declared, addresses: [`${address}/32`], ports: [80], mode: 'MUTUAL' } as const
    await declare('service', outsideDocument('service', outside, spec))
    // Both its own address and that of its endpoint are declared: two documents.
    await until(async () => (await answered(80, address)) === 'ECONNRESET')
    await mesh.kube.delete(`${CONFIGMAPS}/partner`)
    await until(async () => typeof (await answered(80, address)) !== 'string')
    t.match(await answered(80, address), { identity: `URI:${CLIENT_ID}` })
    await declare('partner', mutual)
    await mesh.kube.delete(`${CONFIGMAPS}/service`)
    await until(async () => typeof (await answered(80, address)) !== 'string')
    t.match(await answered(80, address), { identity: `URI:${CLIENT_ID}` }, 'by the address of its endpoint')
  })

  await t.test('a sidecar of v0.1.0, which knows nothing of it, does not dial it at all', async t => {
    const main = join(releasedSources(t, '0.1.0'), 'proxy/main.ts')
    const older = await mesh.start('older', { main })
    const olderApp = await startApplication(older.namespace)
    const before = ports.record.heard().length
    await olderApp.dial({ host: HOST.ipv4, port: ports.tls.recorder, script: SPEAK, timeoutMs: 5_000 })
    await older.line(isConnection({ code: 'PSTN_ADDRESS_UNKNOWN' }))
    t.equal(ports.record.heard().length, before)
    await until(isAnswered)
    await mesh.kube.delete(`${CONFIGMAPS}/partner`)
    // Control: what nobody declares is dialled.
    await until(async () => {
      await olderApp.dial({ host: HOST.ipv4, port: ports.tls.recorder, script: SPEAK, timeoutMs: 5_000 })
      return ports.record.heard().length >= before + 2000
    })
    await declare('partner', mutual)
    await until(isAnswered)
  })

  await t.test('a document that goes takes its live connections along', async t => {
    const live = scripted.dial({ host: HOST.ipv4, port: ports.tls.hold, script: UNTIL_RESET })
    await until(async () => ports.held() === 1)
    const started = performance.now()
    await mesh.kube.delete(`${CONFIGMAPS}/partner`)
    t.match(await live, { reset: true })
    t.comment(`${Math.round(performance.now() - started)} ms after its removal`)
    const changed = (line: LogLine) => line.code === 'PSTN_OUTSIDE_CHANGED' && line.via === 'tls'
    t.match(await client.line(changed), { outcome: 'closed' })
    await declare('partner', mutual)
    await until(isAnswered)
  })

  await t.test('restarted while injector and API server are away, it holds', async t => {
    await delay(500)
    await mesh.injector.running.stop('SIGKILL')
    await mesh.server.stop()
    const exited = once(client.sidecar, 'exit')
    client.sidecar.kill('SIGKILL')
    await exited
    const before = ports.record.heard().length
    const listening = client.lines.filter(({ msg }) => msg === 'listening').length
    client.restart()
    await until(async () => client.lines.filter(({ msg }) => msg === 'listening').length > listening)
    t.match(await answered(), { identity: `URI:${CLIENT_ID}` })
    t.equal(await answered(ports.tls.recorder), 'ECONNRESET')
    t.match(ports.record.heard().slice(before), TLS_RECORD)
  })
})

const TLS_RECORD = /^1603/
const SPEAK: Script = [{ do: 'send', bytes: 1000 }, { do: 'wait', ms: 100 }, { do: 'reset' }]
const UNTIL_RESET: Script = [{ do: 'send', bytes: 1 }, { do: 'receiveReset' }]
const BYTES = 10_000_000
const BULK: Script = [{ do: 'send', bytes: BYTES }, { do: 'end' }, { do: 'receive', bytes: BYTES }]
const ANSWER: Script = [{ do: 'receive', bytes: BYTES }, { do: 'receiveEnd' }, { do: 'send', bytes: BYTES }]

/** Every host that an application may meet, right and wrong, at one address. */
async function startHosts({ kube }: Mesh, outside: TestAuthority, stack: AsyncDisposableStack) {
  const trust = await kube.get<V1ConfigMap>(
    `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps/${TRUST_CONFIGMAP}`,
  )
  const meshRoots = trust.data?.['roots.pem'] ?? ''
  const tls = {
    mutual: 8443,
    openssl: 8444,
    refuser: 8445,
    stranger: 8446,
    expired: 8447,
    misnamed: 8448,
    talker: 8449,
    silent: 8450,
    closed: 8451,
    recorder: 8452,
    echo: 8453,
    cut: 8454,
    hold: 8455,
  }
  const demands = { requestCert: true, rejectUnauthorized: true, ca: [meshRoots] }
  const start = async (
    port: number,
    options: Awaited<ReturnType<typeof outsideTls>>,
    onConnection: (socket: TLSSocket) => void = introduce('partner'),
  ) => void stack.use(await listenTls(options, onConnection, [], { host: '::', port }))
  await start(tls.mutual, await outsideTls(outside, demands))
  await start(tls.stranger, await outsideTls(await outsideAuthority(), demands))
  const notAfter = new Date(Date.now() - HOUR_MS)
  const issue = { notBefore: new Date(Date.now() - 2 * HOUR_MS), notAfter }
  await start(tls.expired, await outsideTls(outside, { ...demands, issue }))
  await start(
    tls.misnamed,
    await outsideTls(outside, { ...demands, issue: { dns: ['www.partner.example'] } }),
  )
  const { promise: served, resolve } = Promise.withResolvers<Transcript>()
  await start(tls.echo, await outsideTls(outside, demands), socket => {
    const gate = () => Promise.resolve()
    const { transcript } = converse(socket, { end: 'server', script: () => [...ANSWER, ...CLOSE], gate })
    void transcript.then(resolve)
  })
  const { promise: cut, resolve: wasCut } = Promise.withResolvers<string>()
  await start(tls.cut, await outsideTls(outside, demands), socket => {
    socket.resume().on('end', () => wasCut('ended'))
    socket.on('error', ({ code }: NodeJS.ErrnoException) => wasCut(String(code)))
  })
  let held = 0
  await start(tls.hold, await outsideTls(outside, demands), socket => {
    held += 1
    socket.resume().on('close', () => {
      held -= 1
    })
  })
  const { key, chain } = await outside.issue({ dns: ['api.partner.example'] })
  const shown = { key, chain, version: 'tls1_3', reverses: true } as const
  stack.use(await opensslServer({ ...shown, roots: meshRoots, accept: `*:${tls.openssl}` }))
  stack.use(await opensslServer({ ...shown, roots: outside.root, accept: `*:${tls.refuser}` }))
  const talk = (socket: Socket) => socket.write('220 mail ready\r\n')
  stack.use(await listenPlain(talk, { host: '::', port: tls.talker }))
  stack.use(await listenPlain(() => {}, { host: '::', port: tls.silent }))
  const record = await recorder(stack, tls.recorder)
  return { tls, undeclared: 9000, record, served: () => served, cut, held: () => held }
}

/** What the other side answers to a line. */
async function reversed({ namespace }: RunningPod, port: number): Promise<string> {
  const script = `
    const socket = require('net').connect(${port}, '${HOST.ipv4}', () => socket.write('postern\\n'))
    socket.once('data', data => { process.stdout.write(data); process.exit() })`
  return namespace.check(process.execPath, ['-e', script], { uid: 1000 })
}

/** A Service without a selector, whose endpoint is the host outside. */
async function serviceTo({ kube }: Mesh, port: number): Promise<string> {
  const name = 'partner'
  const { spec } = await kube.create<V1Service>('/api/v1/namespaces/shop/services', {
    metadata: { name },
    spec: { ports: [{ name: 'tcp', port: 80, targetPort: port }] },
  })
  await kube.create('/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices', {
    metadata: { name, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [{ name: 'tcp', port, protocol: 'TCP' }],
    endpoints: [{ addresses: [HOST.ipv4], conditions: { ready: true } }],
  })
  return spec?.clusterIP ?? ''
}

// Legacy applications that know nothing of TLS, in pods of a real cluster: what they send, who may, and what stands on
// the wire. Each proof of absence has its positive control beside it.
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { requireCluster, requireCommands } from '../support/requirements.ts'
import { banner, http } from './applications.ts'
import { capture } from './capture.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { appPod, appService, eventually, INJECTED, logs, populate, serviceAccount } from './pods.ts'
import { allowFrom, installPostern, policies, strict } from './postern.ts'
import { accessLog, addressOf, metric, sidecarLog } from './sidecar.ts'

const skip = requireCluster() || requireCommands('tcpdump')
const NS = 'data-path'
const POLICY = `${NS}/guarded-callers`
const CLIENT_ID = `spiffe://cluster.local/ns/${NS}/sa/client`
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster)
  await populate(t, cluster, NS, [
    ...['client', 'stranger'].map(name => serviceAccount(NS, name)),
    policies(NS, 'policy', strict('guarded'), allowFrom('guarded-callers', 'guarded', 'client')),
    appPod(NS, 'server', 'http-server', INJECTED),
    appPod(NS, 'guarded', 'http-server', INJECTED),
    appPod(NS, 'banner', 'tcp-banner', INJECTED),
    appPod(NS, 'client', undefined, { ...INJECTED, serviceAccount: 'client' }),
    appPod(NS, 'stranger', undefined, { ...INJECTED, serviceAccount: 'stranger' }),
    appPod(NS, 'plain-server', 'http-server'),
    appPod(NS, 'outsider', undefined),
    appService(NS, 'server', 8080),
    appService(NS, 'guarded', 8080),
    appService(NS, 'banner', 2525),
    appService(NS, 'plain-server', 8080),
  ])
})

t.test('a canary reaches the application, and the wire never shows it', { skip }, async t => {
  const addresses = async (...pods: string[]) => Promise.all(pods.map(pod => addressOf(cluster, NS, pod)))
  const canaries = { mesh: randomBytes(32).toString('hex'), plain: randomBytes(32).toString('hex') }

  const mesh = await capture(cluster, await addresses('client', 'server'), async () => {
    const answer = await http(cluster, NS, 'client', 'http://server:8080/', '--body', canaries.mesh)
    t.same(answer.statuses, { 200: 1 })
  })
  const plain = await capture(cluster, await addresses('outsider', 'plain-server'), async () => {
    const answer = await http(cluster, NS, 'outsider', 'http://plain-server:8080/', '--body', canaries.plain)
    t.same(answer.statuses, { 200: 1 })
  })
  t.match(await logs(cluster, NS, 'server', 'app'), canaries.mesh, 'the application has received it')
  t.match(await logs(cluster, NS, 'plain-server', 'app'), canaries.plain)
  t.comment(`mesh: ${mesh.count(canaries.mesh)} times in ${mesh.packets} packets, ${mesh.bytes} bytes`)
  t.comment(`plain: ${plain.count(canaries.plain)} times in ${plain.packets} packets, ${plain.bytes} bytes`)
  t.ok(mesh.packets > 10)
  t.equal(mesh.count(canaries.mesh), 0)
  t.equal(mesh.count('POST / HTTP/1.1'), 0)
  t.ok(plain.count(canaries.plain) > 0, 'the same capture of a pair without sidecars shows it')
})

t.test('the client’s SPIFFE ID stands in the server’s access log', { skip }, async t => {
  const { statuses } = await http(cluster, NS, 'client', 'http://guarded:8080/')
  t.same(statuses, { 200: 1 })
  const address = await addressOf(cluster, NS, 'client')
  await eventually(async () => {
    const lines = await accessLog(cluster, NS, 'guarded')
    return lines.some(
      ({ via, source, outcome }) =>
        via === 'tunnel' && source?.identity === CLIENT_ID && source.address === address && outcome === 'ok',
    )
  }, 'the access-log line')
  t.comment(JSON.stringify((await accessLog(cluster, NS, 'guarded')).at(-1)))
})

t.test('a client of another service account is refused, and the log names the policy', { skip }, async t => {
  const { errors, statuses } = await http(cluster, NS, 'stranger', 'http://guarded:8080/')
  t.same(statuses, {})
  t.same(errors, { ECONNRESET: 1 })
  const decision = (await sidecarLog(cluster, NS, 'guarded')).findLast(({ msg }) => msg === 'decision')
  t.match(decision, {
    code: 'PSTN_POLICY_DENIED',
    policy: POLICY,
    source: { identity: `spiffe://cluster.local/ns/${NS}/sa/stranger` },
  })
  t.comment(JSON.stringify(decision))
  const told = (await sidecarLog(cluster, NS, 'stranger')).findLast(({ msg }) => msg === 'decision')
  t.match(told, { code: 'PSTN_POLICY_DENIED' }, 'the caller’s sidecar knows why')
  t.same((await http(cluster, NS, 'client', 'http://guarded:8080/')).statuses, { 200: 1 })
})

t.test('a pod without a sidecar is refused under strict', { skip }, async t => {
  const { errors } = await http(cluster, NS, 'outsider', 'http://guarded:8080/')
  t.same(errors, { ECONNRESET: 1 })
  const decision = (await sidecarLog(cluster, NS, 'guarded')).findLast(({ msg }) => msg === 'decision')
  t.match(decision, { code: 'PSTN_PLAINTEXT_REFUSED', direction: 'inbound' })
  t.equal(
    await metric(
      cluster,
      NS,
      'guarded',
      'postern_connections_refused_total{direction="inbound",code="PSTN_PLAINTEXT_REFUSED"}',
    ),
    1,
  )
})

t.test('a pod without a sidecar passes under permissive, and is counted', { skip }, async t => {
  const series = 'postern_plaintext_accepted_total{port="8080"}'
  const before = await metric(cluster, NS, 'server', series)
  const { statuses } = await http(cluster, NS, 'outsider', 'http://server:8080/')
  t.same(statuses, { 200: 1 })
  t.equal(await metric(cluster, NS, 'server', series), before + 1)
  const line = (await accessLog(cluster, NS, 'server')).at(-1)
  t.match(line, { via: 'plaintext', outcome: 'ok', source: { identity: undefined } })
})

t.test('a pod with a sidecar reaches one without, in plaintext', { skip }, async t => {
  const { statuses } = await http(cluster, NS, 'client', 'http://plain-server:8080/')
  t.same(statuses, { 200: 1 })
  t.match((await accessLog(cluster, NS, 'client')).at(-1), { direction: 'outbound', via: 'plaintext' })
})

t.test('a server that speaks first is heard before the client sends a byte', { skip }, async t => {
  const times: number[] = []
  for (let dial = 0; dial < 5; dial += 1) {
    const { received, bannerMs, error } = await banner(cluster, NS, 'client', 'banner', 2525)
    t.equal(error, undefined)
    t.equal(received, '220 banner ready\r\n')
    times.push(bannerMs ?? Number.POSITIVE_INFINITY)
  }
  t.comment(`banner after ${times.map(ms => ms.toFixed(1)).join(', ')} ms`)
  t.ok(Math.min(...times) < 50, 'nothing waits for a timer between accept and dial')
  await eventually(async () => (await accessLog(cluster, NS, 'banner')).length >= 5, 'the access log')
  const lines = await accessLog(cluster, NS, 'banner')
  t.ok(lines.every(({ via, source }) => via === 'tunnel' && source?.identity === CLIENT_ID))
})

// Certificates that live for half a minute, under load: nobody notices that they are replaced.
import t from 'tap'
import { requireCluster } from '../support/requirements.ts'
import { type HttpSummary, http } from './applications.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { appPod, appService, eventually, INJECTED, populate } from './pods.ts'
import { installPostern } from './postern.ts'
import { accessLog, crashes, serialsOf } from './sidecar.ts'

const skip = requireCluster()
const NS = 'rotation'
const LIFETIME_SECONDS = 30
const SECONDS = 60
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster, { maxLeafLifetimeSeconds: LIFETIME_SECONDS })
  await populate(t, cluster, NS, [
    appPod(NS, 'server', 'http-server', INJECTED),
    appPod(NS, 'client', undefined, INJECTED),
    appService(NS, 'server', 8080),
  ])
})

const distinct = (serials: (string | undefined)[]): string[] => [
  ...new Set(serials.filter(serial => serial !== undefined)),
]

t.test('no request of thousands notices three rotations on both sides', { skip }, async t => {
  const load = (...options: string[]): Promise<HttpSummary> =>
    http(
      cluster,
      NS,
      'client',
      'http://server:8080/',
      `--seconds=${SECONDS}`,
      '--count=1500',
      '--every=15',
      ...options,
    )
  const [kept, fresh] = await Promise.all([load(), load('--new-connections')])
  t.same(await crashes(cluster, NS, 'client', 'server'), [])
  for (const { statuses, errors } of [kept, fresh]) {
    t.same(Object.keys(statuses), ['200'])
    t.same(errors, {})
  }
  const total = (kept.statuses[200] ?? 0) + (fresh.statuses[200] ?? 0)
  t.ok(total >= 3_000, `${total} requests`)

  const oneLasted = async () =>
    (await accessLog(cluster, NS, 'server')).some(({ durationMs = 0 }) => durationMs > (SECONDS - 1) * 1000)
  await eventually(oneLasted, 'the kept connection was one connection, and is in the access log')

  const [clients, servers] = [await serialsOf(cluster, NS, 'client'), await serialsOf(cluster, NS, 'server')]
  const seenByServer = distinct((await accessLog(cluster, NS, 'server')).map(({ source }) => source?.serial))
  const seenByClient = distinct(
    (await accessLog(cluster, NS, 'client')).map(({ destination }) => destination?.serial),
  )
  t.comment(`${kept.statuses[200]} requests on one kept connection, ${fresh.statuses[200]} on new ones`)
  t.comment(`issued in ${SECONDS} s: ${clients.length} to the client, ${servers.length} to the server`)
  t.comment(`serials that the server saw: ${seenByServer.join(' ')}`)
  t.comment(`serials that the client saw: ${seenByClient.join(' ')}`)
  t.ok(clients.length >= 4, 'the client’s certificate was replaced three times')
  t.ok(servers.length >= 4)
  t.ok(seenByServer.length >= 4, 'the server saw each of them')
  t.ok(seenByClient.length >= 4)
  const refused = (log: Awaited<ReturnType<typeof accessLog>>) =>
    log.filter(({ outcome }) => outcome !== 'ok')
  t.same(refused(await accessLog(cluster, NS, 'server')), [])
  t.same(refused(await accessLog(cluster, NS, 'client')), [])
})

// The whole injector in this process on the embedded cluster: it becomes ready and leads, says what it measures, and
// ends in good order.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { startEmbeddedCluster } from '../../embedded/cluster/server.ts'
import { startInjector } from '../../injector/app.ts'
import { parseSettings } from '../../injector/config.ts'
import { LEASE_TIMING } from '../../injector/leader.ts'
import { systemClock } from '../../shared/clock.ts'
import { connectKube, type Kube, KubeError } from '../../shared/kube/rest.ts'
import { endsWithin } from '../../shared/lifecycle.ts'
import { createLogger } from '../../shared/log.ts'
import { LEADER_LEASE, SYSTEM_NAMESPACE } from '../../shared/names.ts'

const DOCS = new URL('../../docs/metrics.md', import.meta.url)

t.test('the injector on the embedded cluster', async t => {
  await using undo = new AsyncDisposableStack()
  const cluster = undo.use(await startEmbeddedCluster())
  const api = { server: cluster.url, token: cluster.access.adminToken }
  const kube = undo.use(connectKube(api))
  await kube.create('/api/v1/namespaces', { metadata: { name: SYSTEM_NAMESPACE } })
  const ports = { webhookPort: 0, controlPort: 0, metricsPort: 0, adminPort: 0 }
  const settings = parseSettings(JSON.stringify({ listenAddress: '127.0.0.1', ...ports }), 'test')
  const injector = undo.use(
    await startInjector({
      config: { ...settings, sidecarImage: 'postern/proxy', replica: 'here', api },
      kube,
      log: createLogger('injector', 'error'),
      clock: systemClock,
      random: Math.random,
      version: 'test',
      timing: { lease: LEASE_TIMING, drain: { noticeMs: 0, spreadMs: 0 } },
    }),
  )
  const status = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${injector.ports.metrics}${path}`)
    return { code: response.status, text: await response.text() }
  }

  await t.test('it is ready', async t => {
    t.same(await status('/readyz'), { code: 200, text: 'ok\n' })
  })

  await t.test(
    'docs/metrics.md lists every metric of the injector with its type and help, and no other',
    async t => {
      const { text } = await status('/metrics')
      const types = new Map(
        [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]),
      )
      const measured = [...text.matchAll(/^# HELP (\S+) (.+)$/gm)].map(([, name, help]) => [
        name,
        types.get(name),
        help,
      ])
      const sections = readFileSync(DOCS, 'utf8').split(/^## /m)
      const section = sections.find(part => part.startsWith('Injector\n')) ?? ''
      const documented = [...section.matchAll(/^\| `(\w+)`[^|]* \| (\w+) \| (.+) \|$/gm)].map(row =>
        row.slice(1),
      )
      t.same(documented.sort(), measured.sort())
    },
  )

  await t.test('draining gives up readiness and the lease', async t => {
    await injector.drain()
    t.same(await status('/readyz'), { code: 503, text: 'waiting for the end: draining\n' })
    t.equal(injector.leading.get(), false)
    const lease = cluster.store.get('leases', SYSTEM_NAMESPACE, LEADER_LEASE)
    t.match(lease.spec, { holderIdentity: '' })
  })
})

t.test('a leader that may not read the cluster ends in good order before it was ready', async t => {
  await using undo = new AsyncDisposableStack()
  const cluster = undo.use(await startEmbeddedCluster())
  const api = { server: cluster.url, token: cluster.access.adminToken }
  const kube = undo.use(connectKube(api))
  await kube.create('/api/v1/namespaces', { metadata: { name: SYSTEM_NAMESPACE } })
  const ports = { webhookPort: 0, controlPort: 0, metricsPort: 0, adminPort: 0 }
  const settings = parseSettings(JSON.stringify({ listenAddress: '127.0.0.1', ...ports }), 'test')
  const get: Kube['get'] = async (path, signal) => {
    if (path.startsWith('/api/v1/nodes')) throw new KubeError(403, 'Forbidden', 'nodes is forbidden')
    return kube.get(path, signal)
  }
  const shutdown = new AbortController()
  const starting = startInjector(
    {
      config: { ...settings, sidecarImage: 'postern/proxy', replica: 'here', api },
      kube: { ...kube, get },
      log: createLogger('injector', 'error'),
      clock: systemClock,
      random: Math.random,
      version: 'test',
    },
    shutdown.signal,
  )
  const holder = () => cluster.store.list('leases').find(({ metadata }) => metadata.name === LEADER_LEASE)
  while (!holder()) await systemClock.sleep(20, shutdown.signal)
  shutdown.abort(new Error('the end'))
  t.equal(
    await endsWithin(
      starting.catch(() => undefined),
      5_000,
      systemClock,
    ),
    true,
  )
  t.match(holder()?.spec, { holderIdentity: '' })
})

// A policy ConfigMap edited while connections live: both the next connection and the live one feel it, and nobody else.
import t from 'tap'
import { requireCluster } from '../support/requirements.ts'
import { hold, http } from './applications.ts'
import { type Cluster, useCluster } from './cluster.ts'
import { apply, appPod, appService, eventually, INJECTED, populate, serviceAccount } from './pods.ts'
import { allowFrom, installPostern, policies } from './postern.ts'
import { metric, sidecarLog } from './sidecar.ts'

const skip = requireCluster()
const NS = 'policy'
/** What a change may take to reach live connections. */
const PROMISED_MS = 1_000
let cluster: Cluster

const allow = (...accounts: string[]) =>
  policies(
    NS,
    'callers',
    allowFrom('banner-callers', 'banner', ...accounts),
    allowFrom('web-callers', 'web', ...accounts),
  )

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster)
  const callers = ['one', 'two']
  await populate(t, cluster, NS, [
    ...callers.map(name => serviceAccount(NS, name)),
    allow('one', 'two'),
    ...callers.map(name => appPod(NS, name, undefined, { ...INJECTED, serviceAccount: name })),
    appPod(NS, 'web', 'http-server', INJECTED),
    appPod(NS, 'banner', 'tcp-banner', INJECTED),
    appService(NS, 'web', 8080),
    appService(NS, 'banner', 2525),
  ])
})

t.test('an edited policy is felt by the live connection and by the next one', { skip }, async t => {
  const holding = ['one', 'two'].map(pod => hold(cluster, NS, pod, 'banner', 2525, 6))
  const dialling = http(
    cluster,
    NS,
    'one',
    'http://web:8080/',
    '--new-connections',
    '--every=5',
    '--seconds=6',
  )
  const opened = 'postern_connections_opened_total{direction="inbound",via="tunnel"}'
  const both = eventually(async () => (await metric(cluster, NS, 'banner', opened)) === 2, 'both connections')
  await both.catch(async thrown => {
    t.comment(JSON.stringify(await Promise.all(holding)))
    throw thrown
  })
  await eventually(async () => (await metric(cluster, NS, 'web', opened)) > 10, 'many connections')

  const before = Date.now()
  await apply(cluster, allow('two'))
  const edited = Date.now()
  const [one, two] = await Promise.all(holding)
  const { statuses, errors, firstErrorAt = 0 } = await dialling

  t.comment(`kubectl apply took ${edited - before} ms`)
  t.comment(`the live connection ended ${(one?.endedAt ?? 0) - edited} ms after it`)
  t.comment(`the first dial was refused ${firstErrorAt - edited} ms after it`)
  t.ok((one?.endedAt ?? 0) > before, 'it lived until the edit')
  t.ok((one?.endedAt ?? 0) - edited < PROMISED_MS)
  t.equal(one?.error, 'ECONNRESET')
  t.ok(statuses[200], 'dials before the edit were answered')
  t.same(Object.keys(errors), ['ECONNRESET'])
  t.ok(firstErrorAt > before)
  t.ok(firstErrorAt - edited < PROMISED_MS)
  t.equal(two?.error, undefined, 'a connection that is still allowed lives on')

  const decisions = (await sidecarLog(cluster, NS, 'banner')).filter(({ msg }) => msg === 'decision')
  t.equal(decisions.length, 1)
  t.match(decisions[0], { code: 'PSTN_POLICY_DENIED', policy: `${NS}/banner-callers` })
  t.comment(JSON.stringify(decisions[0]))
})

t.test('what the next edit allows, passes', { skip }, async t => {
  t.same((await http(cluster, NS, 'one', 'http://web:8080/')).errors, { ECONNRESET: 1 })
  await apply(cluster, allow('one', 'two'))
  const edited = Date.now()
  await eventually(
    async () => (await http(cluster, NS, 'one', 'http://web:8080/')).statuses[200] === 1,
    'an answer',
    5_000,
  )
  t.comment(`answered ${Date.now() - edited} ms after the edit, the client’s start included`)
})

t.test('a policy that does not parse is refused, and the last good one stays', { skip }, async t => {
  const wrong = allowFrom('web-callers', 'web', 'one')
  Object.assign(wrong, { spec: { acton: 'ALLOW' } })
  await t.rejects(apply(cluster, policies(NS, 'callers', wrong)), /PSTN_POLICY_INVALID.*acton/s)
  t.same((await http(cluster, NS, 'one', 'http://web:8080/')).statuses, { 200: 1 })
})

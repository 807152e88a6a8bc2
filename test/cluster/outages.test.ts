// Postern away, then the API server away: traffic flows on, new pods either start without us or are refused clearly, and
// what fell behind is made up for when it is back.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { requireCluster } from '../support/requirements.ts'
import { type HttpSummary, http } from './applications.ts'
import { type Cluster, useCluster } from './cluster.ts'
import {
  appContainer,
  apply,
  appPod,
  appService,
  createNamespace,
  eventually,
  INJECTED,
  logs,
  populate,
  waitForPod,
} from './pods.ts'
import { allowFrom, installPostern, policies, withoutInjector } from './postern.ts'
import { accessLog, crashes, kill, podOf, sidecarLog, sidecarState } from './sidecar.ts'

const skip = requireCluster()
const NS = 'outages'
/** Whose pods opt in by the label of their namespace. */
const LABELLED = 'outages-labelled'
const LIFETIME_SECONDS = 60
/** Less than what is left of any certificate. */
const OUTAGE_SECONDS = 15
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster, { maxLeafLifetimeSeconds: LIFETIME_SECONDS })
  const labelled = await createNamespace(cluster, LABELLED, { 'postern.dev/inject': 'enabled' })
  t.teardown(() => labelled[Symbol.asyncDispose]())
  await populate(t, cluster, NS, [
    appPod(NS, 'server', 'http-server', INJECTED),
    appPod(NS, 'client', undefined, INJECTED),
    appPod(NS, 'phoenix', 'http-server', INJECTED),
    appService(NS, 'server', 8080),
    appService(NS, 'phoenix', 8080),
  ])
})

/** A pod that calls a server until after the outage, all by itself: nothing that it needs is in the API server. */
const caller = (name: string, server: string, ...options: string[]) =>
  appPod(NS, name, undefined, {
    ...INJECTED,
    spec: {
      restartPolicy: 'Never',
      containers: [
        appContainer('app', undefined, {
          command: [
            'node',
            '/apps/http-client.ts',
            `http://${server}:8080/`,
            '--every=20',
            `--seconds=${OUTAGE_SECONDS + 20}`,
            ...options,
          ],
        }),
      ],
    },
  })

async function resultOf(name: string): Promise<HttpSummary> {
  await eventually(
    async () => ['Succeeded', 'Failed'].includes((await podOf(cluster, NS, name)).status?.phase ?? ''),
    `the end of ${name}`,
    60_000,
  )
  return JSON.parse(await logs(cluster, NS, name, 'app'))
}

const times = async (pod: string, msg: string): Promise<number[]> =>
  (await sidecarLog(cluster, NS, pod)).filter(line => line.msg === msg).map(({ time }) => Date.parse(time))

t.test('while the injector is gone', { skip }, async t => {
  t.same((await http(cluster, NS, 'client', 'http://server:8080/')).statuses, { 200: 1 })
  await using _injector = await withoutInjector(cluster)

  await t.test('traffic flows, on kept and on new connections', async t => {
    for (const option of ['--count=100', '--new-connections']) {
      const { statuses, errors } = await http(
        cluster,
        NS,
        'client',
        'http://server:8080/',
        '--count=100',
        option,
      )
      t.same(statuses, { 200: 100 })
      t.same(errors, {})
    }
  })

  await t.test('a sidecar that is killed comes back, and finds the peers that it knew', async t => {
    const before = await sidecarState(cluster, NS, 'client')
    await kill(cluster, before)
    const killed = performance.now()
    const call = () => http(cluster, NS, 'client', 'http://server:8080/')
    await eventually(
      async () => (await sidecarState(cluster, NS, 'client')).restarts > before.restarts,
      'its restart',
    )
    await eventually(async () => (await call()).statuses[200] === 1, 'an answer')
    t.comment(`answered ${Math.round(performance.now() - killed)} ms after`)
    t.match((await accessLog(cluster, NS, 'client')).at(-1), { via: 'tunnel', outcome: 'ok' })
  })

  await t.test('pods that opted out are created, and run', async t => {
    await apply(
      cluster,
      appPod(NS, 'silent', undefined),
      appPod(LABELLED, 'opted-out', undefined, { annotations: { 'postern.dev/inject': 'disabled' } }),
    )
    await waitForPod(cluster, NS, 'silent')
    await waitForPod(cluster, LABELLED, 'opted-out')
    t.pass('both are ready')
  })

  await t.test('pods that opted in are refused, and the message says by whom', async t => {
    const refusal = async (pod: object) => {
      const { code, stderr } = await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(pod))
      t.not(code, 0)
      t.comment(stderr.trim())
      return stderr
    }
    t.match(
      await refusal(appPod(NS, 'late', undefined, INJECTED)),
      /failed calling webhook "pod\.postern\.dev"/,
    )
    t.match(
      await refusal(appPod(LABELLED, 'late', undefined)),
      /failed calling webhook "namespace\.postern\.dev"/,
    )
  })

  await t.test('no policy can be changed unseen', async t => {
    await t.rejects(
      apply(cluster, policies(NS, 'late', allowFrom('late', 'server', 'nobody'))),
      /failed calling webhook "policy\.postern\.dev"/,
    )
  })
})

t.test('once the injector is back, pods that opt in are created', { skip }, async t => {
  const started = performance.now()
  await apply(cluster, appPod(NS, 'late', undefined, INJECTED))
  await waitForPod(cluster, NS, 'late')
  t.comment(`ready after ${Math.round(performance.now() - started)} ms`)
  t.same((await http(cluster, NS, 'late', 'http://server:8080/')).statuses, { 200: 1 })
})

t.test('while the API server is stopped', { skip }, async t => {
  const callers = ['keeper', 'dialler', 'witness']
  await apply(
    cluster,
    caller('keeper', 'server'),
    caller('dialler', 'server', '--new-connections'),
    caller('witness', 'phoenix', '--new-connections'),
  )
  await Promise.all(callers.map(pod => waitForPod(cluster, NS, pod)))
  const phoenix = await sidecarState(cluster, NS, 'phoenix')

  await cluster.stopApiServer()
  const stopped = Date.now()
  await delay(2_000)
  await kill(cluster, phoenix)
  const killed = Date.now()
  await delay(stopped + OUTAGE_SECONDS * 1_000 - Date.now())
  const back = Date.now()
  await cluster.startApiServer()

  await t.test('traffic flows, on a kept and on new connections', async t => {
    for (const name of ['keeper', 'dialler']) {
      const { statuses, errors } = await resultOf(name)
      t.comment(`${name}: ${JSON.stringify(statuses)} ${JSON.stringify(errors)}`)
      t.same(Object.keys(statuses), ['200'])
      t.same(errors, {})
    }
    t.same(await crashes(cluster, NS, 'server', 'keeper', 'dialler'), [])
  })

  await t.test('a sidecar that is killed comes back with what it kept in memory', async t => {
    const {
      statuses,
      errors,
      firstErrorAt = 0,
      lastErrorAt = Number.POSITIVE_INFINITY,
    } = await resultOf('witness')
    t.comment(
      `${JSON.stringify(statuses)} ${JSON.stringify(errors)}; last error ${lastErrorAt - killed} ms after`,
    )
    t.ok(firstErrorAt > killed, 'it was felt')
    t.ok(lastErrorAt < back, 'and over before the API server was back')
    t.equal((await sidecarState(cluster, NS, 'phoenix')).restarts, phoenix.restarts + 1)
    const [restored = 0] = await times('phoenix', 'certificate restored')
    t.ok(restored > killed && restored < back)
  })

  await t.test('renewal goes on when it is back', async t => {
    for (const pod of ['server', 'client', 'phoenix']) {
      const renewals = async () => (await times(pod, 'certificate issued')).filter(time => time > back)
      await eventually(async () => (await renewals()).length > 0, `a renewal by ${pod}`, 45_000)
      const failures = (await times(pod, 'certificate failed')).filter(time => time < back)
      const [first = 0] = await renewals()
      t.comment(`${pod}: ${failures.length} failed attempts, renewed ${first - back} ms after the return`)
    }
    t.same((await http(cluster, NS, 'client', 'http://server:8080/')).statuses, { 200: 1 })
  })

  await t.test('and new pods get their certificates', async t => {
    await apply(cluster, appPod(NS, 'newcomer', undefined, INJECTED))
    await waitForPod(cluster, NS, 'newcomer')
    t.same((await http(cluster, NS, 'newcomer', 'http://server:8080/')).statuses, { 200: 1 })
  })
})

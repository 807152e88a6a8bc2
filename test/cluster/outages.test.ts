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
  waitForPod,
  waitForService,
} from './pods.ts'
import { allowFrom, installPostern, policies, withoutInjector } from './postern.ts'
import { podOf, sidecarLog } from './sidecar.ts'

const skip = requireCluster()
const NS = 'outages'
/** Whose pods opt in by the label of their namespace. */
const LABELLED = 'outages-labelled'
const LIFETIME_SECONDS = 60
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster, { maxLeafLifetimeSeconds: LIFETIME_SECONDS })
  for (const [name, labels] of [
    [NS, {}],
    [LABELLED, { 'postern.dev/inject': 'enabled' }],
  ] as const) {
    const namespace = await createNamespace(cluster, name, labels)
    t.teardown(() => namespace[Symbol.asyncDispose]())
  }
  await apply(
    cluster,
    appPod(NS, 'server', 'http-server', INJECTED),
    appPod(NS, 'client', undefined, INJECTED),
    appService(NS, 'server', 8080),
  )
  await Promise.all(['server', 'client'].map(pod => waitForPod(cluster, NS, pod)))
  await waitForService(cluster, NS, 'server')
})

/** A pod that calls the server for so long, all by itself: nothing that it needs is in the API server. */
const caller = (name: string, seconds: number, ...options: string[]) =>
  appPod(NS, name, undefined, {
    ...INJECTED,
    spec: {
      restartPolicy: 'Never',
      containers: [
        appContainer('app', undefined, {
          command: [
            'node',
            '/apps/http-client.ts',
            'http://server:8080/',
            '--every=20',
            `--seconds=${seconds}`,
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

t.test(
  'while the API server is stopped traffic flows, and renewal goes on when it is back',
  { skip },
  async t => {
    const outageSeconds = 15
    const callers = ['keeper', 'dialler']
    await apply(
      cluster,
      caller('keeper', outageSeconds + 20),
      caller('dialler', outageSeconds + 20, '--new-connections'),
    )
    await Promise.all(callers.map(pod => waitForPod(cluster, NS, pod)))
    await cluster.stopApiServer()
    const stopped = Date.now()
    await delay(outageSeconds * 1_000)
    await cluster.startApiServer()
    const back = Date.now()

    for (const name of callers) {
      const { statuses, errors, firstErrorAt = 0 } = await resultOf(name)
      t.comment(`${name}: ${JSON.stringify(statuses)} ${JSON.stringify(errors)}`)
      if (firstErrorAt) t.comment(`first error ${firstErrorAt - stopped} ms after the stop`)
      t.same(Object.keys(statuses), ['200'])
      t.same(errors, {})
    }
    for (const pod of ['server', 'client', ...callers]) {
      const issuedAfter = async () => (await times(pod, 'certificate issued')).filter(time => time > back)
      if (!callers.includes(pod))
        await eventually(async () => (await issuedAfter()).length > 0, `a renewal by ${pod}`, 45_000)
      const failures = (await times(pod, 'certificate failed')).filter(time => time > stopped && time < back)
      const renewals = (await issuedAfter()).map(time => `${time - back} ms`)
      t.comment(
        `${pod}: ${failures.length} failed attempts meanwhile, renewed ${renewals[0]} after the return`,
      )
    }
    t.same((await http(cluster, NS, 'client', 'http://server:8080/')).statuses, { 200: 1 })
  },
)

// What Kubernetes does with pods goes on with a sidecar: Jobs complete, probes tell the truth under strict, and a
// sidecar that dies comes back.
import type { V1ContainerStatus, V1Job, V1PodList } from '@kubernetes/client-node'
import t from 'tap'
import { PROXY_CONTAINER } from '../../shared/names.ts'
import { requireCluster } from '../support/requirements.ts'
import { http } from './applications.ts'
import { type Cluster, useCluster } from './cluster.ts'
import {
  appContainer,
  apply,
  appPod,
  appService,
  checked,
  eventually,
  INJECTED,
  logs,
  populate,
  waitForPod,
} from './pods.ts'
import { installPostern, policies, strict } from './postern.ts'
import { addressOf, kill, metric, podOf, sidecarLog, sidecarState } from './sidecar.ts'

const skip = requireCluster()
const NS = 'workloads'
let cluster: Cluster

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t)
  await installPostern(cluster)
  await populate(t, cluster, NS, [
    policies(NS, 'strict', strict('honest'), strict('failing')),
    appPod(NS, 'server', 'http-server', INJECTED),
    appPod(NS, 'client', undefined, INJECTED),
    appPod(NS, 'outsider', undefined),
    appService(NS, 'server', 8080),
  ])
})

t.test('a Job completes, and its sidecar ends with it', { skip }, async t => {
  const { spec } = appPod(NS, 'report', 'http-client')
  const containers = [
    appContainer('app', undefined, {
      command: ['node', '/apps/http-client.ts', 'http://server:8080/report'],
    }),
  ]
  const job: V1Job = {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: 'report', namespace: NS },
    spec: {
      backoffLimit: 0,
      template: { metadata: INJECTED, spec: { ...spec, containers, restartPolicy: 'Never' } },
    },
  }
  const started = performance.now()
  await apply(cluster, job)
  await checked(cluster, [
    'wait',
    `--namespace=${NS}`,
    'job/report',
    '--for=condition=Complete',
    '--timeout=60s',
  ])
  t.comment(`complete after ${Math.round(performance.now() - started)} ms`)
  const selector = encodeURIComponent('batch.kubernetes.io/job-name=report')
  const { items } = await cluster.kube.get<V1PodList>(
    `/api/v1/namespaces/${NS}/pods?labelSelector=${selector}`,
  )
  const [pod] = items
  t.equal(items.length, 1)
  t.equal(pod?.status?.phase, 'Succeeded')
  const sidecar = pod?.status?.initContainerStatuses?.find(({ name }) => name === PROXY_CONTAINER)
  t.equal(sidecar?.state?.terminated?.exitCode, 0)
  const [app] = pod?.status?.containerStatuses ?? []
  const ended = (status: V1ContainerStatus | undefined) =>
    new Date(status?.state?.terminated?.finishedAt ?? Number.NaN).getTime()
  t.ok(ended(sidecar) >= ended(app), 'the sidecar ended after the application')
})

/** One container for each kind of probe, asked each second; the application listens on 8080 and 2525. */
const probed = (name: string, targets: { http: number; tcp: number; directory: string }) => {
  const probes = (handler: object) => ({
    readinessProbe: { ...handler, periodSeconds: 1 },
    ...(name === 'honest' && { livenessProbe: { ...handler, periodSeconds: 1, failureThreshold: 2 } }),
  })
  return appPod(NS, name, undefined, {
    ...INJECTED,
    spec: {
      containers: [
        appContainer('http', 'http-server', probes({ httpGet: { port: targets.http, path: '/alive' } })),
        appContainer('tcp', 'tcp-banner', probes({ tcpSocket: { port: targets.tcp } })),
        appContainer('exec', undefined, probes({ exec: { command: ['test', '-d', targets.directory] } })),
      ],
    },
  })
}

t.test('probes pass under strict where the application is well, and only there', { skip }, async t => {
  await apply(
    cluster,
    probed('honest', { http: 8080, tcp: 2525, directory: '/apps' }),
    probed('failing', { http: 8081, tcp: 2526, directory: '/nowhere' }),
  )
  await waitForPod(cluster, NS, 'honest')
  const url = `http://${await addressOf(cluster, NS, 'honest')}:8080/`
  const refused = await http(cluster, NS, 'outsider', url)
  t.same(refused.errors, { ECONNRESET: 1 }, 'plaintext is refused: strict is in force')
  const honest = async () => (await podOf(cluster, NS, 'honest')).status?.containerStatuses ?? []
  const probesSeen = async () =>
    (await checked(cluster, ['logs', `--namespace=${NS}`, 'honest', '--container=http'])).split('/alive')
      .length - 1
  await eventually(async () => (await probesSeen()) >= 10, 'ten HTTP probes')
  t.comment(`${await probesSeen()} HTTP probes answered`)
  t.same(
    (await honest()).map(({ name, ready, restartCount }) => ({ name, ready, restartCount })),
    ['exec', 'http', 'tcp'].map(name => ({ name, ready: true, restartCount: 0 })),
  )
  const counted = 'postern_connections_refused_total{direction="inbound",code="PSTN_PLAINTEXT_REFUSED"}'
  t.equal(await metric(cluster, NS, 'honest', counted), 1, 'no probe was refused: only the pod outside')

  await eventually(async () => (await sidecarState(cluster, NS, 'failing')).ready, 'the other pod’s sidecar')
  const failing = (await podOf(cluster, NS, 'failing')).status?.containerStatuses ?? []
  t.same(
    failing.map(({ name, ready, state }) => ({ name, ready, running: Boolean(state?.running) })),
    ['exec', 'http', 'tcp'].map(name => ({ name, ready: false, running: true })),
  )
})

for (const victim of ['server', 'client']) {
  t.test(`the sidecar of the ${victim} is killed: it comes back, and traffic resumes`, { skip }, async t => {
    t.same((await http(cluster, NS, 'client', 'http://server:8080/')).statuses, { 200: 1 })
    const serialOf = async (msg: string) =>
      (await sidecarLog(cluster, NS, victim)).findLast(line => line.msg === msg)?.serial
    const serial = await serialOf('certificate issued')
    const before = await sidecarState(cluster, NS, victim)
    const calling = http(
      cluster,
      NS,
      'client',
      'http://server:8080/',
      '--new-connections',
      '--every=20',
      '--seconds=8',
    )
    const earlier = await calls(victim)
    await eventually(async () => (await calls(victim)) > earlier + 10, 'the calls')
    const killed = Date.now()
    await kill(cluster, before)
    const { statuses, errors, lastErrorAt = 0 } = await calling
    const after = await sidecarState(cluster, NS, victim)
    t.comment(
      `${JSON.stringify(statuses)} ${JSON.stringify(errors)}; last error ${lastErrorAt - killed} ms after`,
    )
    t.ok(lastErrorAt > killed, 'it was felt')
    t.same(Object.keys(statuses), ['200'])
    t.equal(after.restarts, before.restarts + 1)
    t.ok(after.ready)
    t.equal(await serialOf('certificate restored'), serial, 'key and certificate survived in memory')
    t.same((await http(cluster, NS, 'client', 'http://server:8080/')).statuses, { 200: 1 })
    // A sidecar calls its application from the pod's own address; a caller past it would show its own.
    const requests = (await logs(cluster, NS, 'server', 'app')).matchAll(/"peer":"([^"]*)"/g)
    const peers = new Set([...requests].map(([, peer]) => peer))
    t.same([...peers], [await addressOf(cluster, NS, 'server')], 'nothing went past the sidecars meanwhile')
  })
}

const calls = (pod: string): Promise<number> =>
  metric(
    cluster,
    NS,
    pod,
    `postern_connections_opened_total{direction="${pod === 'server' ? 'inbound' : 'outbound'}",via="tunnel"}`,
  )

// Who notices when certificates are not renewed: real sidecars of two replicas on a real API server, one right taken away,
// and what the pods' Events, the metrics and `postern certs` say of it, from either replica.
import { setTimeout as delay } from 'node:timers/promises'
import type { CoreV1Event, CoreV1EventList, V1ClusterRole } from '@kubernetes/client-node'
import t from 'tap'
import { certs } from '../../cli/certs/list.ts'
import { run } from '../../cli/run.ts'
import type { Gathered } from '../../shared/control/sidecar-report.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { WORKLOAD_ROLE } from '../../shared/names.ts'
import { requireApiServer } from '../support/requirements.ts'
import type { InjectorProcess } from './support/injector-process.ts'
import { until } from './support/installation.ts'
import { MESH_NAMESPACE, startLoopbackMesh } from './support/loopback-mesh.ts'

/** Renewed after 30 to 45 seconds. */
const LEAF_SECONDS = 90
/** Longer than until() waits. */
const patiently = (done: () => Promise<boolean>): Promise<void> =>
  until(done)
    .catch(() => until(done))
    .catch(() => until(done))
const ROLE = `/apis/rbac.authorization.k8s.io/v1/clusterroles/${WORKLOAD_ROLE}`

t.test(
  'who notices when certificates are not renewed',
  { skip: requireApiServer(), timeout: 280_000 },
  async t => {
    await using stack = new AsyncDisposableStack()
    const mesh = await startLoopbackMesh(stack, { maxLeafLifetimeSeconds: LEAF_SECONDS })
    const { kube, server } = mesh
    const first = await mesh.startReplica('injector-0')
    const second = await mesh.startReplica('injector-1')
    const replicas = [first, second]
    const [web, db] = [
      await mesh.startPod({ name: 'web', address: '127.77.0.2' }),
      await mesh.startPod({ name: 'db', address: '127.77.0.3' }),
    ]

    const postern = async ({ ports }: InjectorProcess, ...words: string[]) => {
      const out: string[] = []
      const code = await run(['certs', '--injector', `http://127.0.0.1:${ports.admin}`, ...words], {
        commands: [certs],
        sink: { out: text => out.push(text), err: text => out.push(text) },
        signal: AbortSignal.timeout(20_000),
        version: 'test',
        connect: async () => connectKube(server.endpoint),
      })
      return { code, out: out.join('') }
    }
    const gathered = async ({ ports }: InjectorProcess): Promise<Gathered> =>
      (await (await fetch(`http://127.0.0.1:${ports.admin}/sidecars`)).json()) as Gathered
    /** Of both replicas together. */
    const inHealth = async (health: string): Promise<number> => {
      const counts = await Promise.all(
        replicas.map(each => each.metric(`postern_sidecar_certificates\\{health="${health}"\\}`)),
      )
      return counts.reduce((sum, count) => sum + count, 0)
    }
    const events = async (reason: string): Promise<CoreV1Event[]> => {
      const { items } = await kube.get<CoreV1EventList>(`/api/v1/namespaces/${MESH_NAMESPACE}/events`)
      return items.filter(event => event.reason === reason)
    }

    await t.test('either replica knows the sidecars of both', async t => {
      for (const replica of replicas) {
        await until(
          async () => (await gathered(replica)).reports.filter(each => each.certificate).length === 2,
        )
        const { reports, missing, unconnected } = await gathered(replica)
        t.same([missing, unconnected], [[], []])
        t.same(reports.map(({ podUid }) => podUid).sort(), [web.uid, db.uid].sort())
        for (const { certificate, roots } of reports) {
          t.match(certificate, { receivedAt: /^20/, notAfter: /^20/ })
          t.equal(roots.length, 1)
        }
      }
      const { code, out } = await postern(first)
      t.equal(code, 0, out)
      t.match(out, /^nothing is in danger\. The first of 4 to expire: shop\/(?:web|db), in (?:1 min )?\d+ s/)
    })

    await t.test('a pod whose sidecar does not connect is listed, and bad news', async t => {
      await mesh.createPod('mute', '127.77.0.4')
      await until(async () => (await gathered(first)).unconnected.length === 1)
      const { code, out } = await postern(first)
      t.equal(code, 1)
      t.match(
        out,
        /^IN DANGER: 1 of 5\. Nearest: shop\/mute, silent, its end is not known \(not connected; nothing/,
      )
      await kube.delete(`/api/v1/namespaces/${MESH_NAMESPACE}/pods/mute`, { gracePeriodSeconds: 0 })
      await until(async () => (await gathered(first)).unconnected.length === 0)
    })

    const { rules = [] } = await kube.get<V1ClusterRole>(ROLE)
    await t.test(
      'renewal that keeps failing is one Event on each pod, a metric, and first in the list',
      async t => {
        await kube.patch(ROLE, 'application/merge-patch+json', { rules: [] })
        await patiently(async () => (await events('CertificateNotRenewed')).length === 2)
        t.equal(await inHealth('failing'), 2)
        // Attempts go on meanwhile.
        await delay(8_000)
        const told = await events('CertificateNotRenewed')
        t.same(told.map(({ involvedObject }) => involvedObject.uid).sort(), [web.uid, db.uid].sort())
        for (const { type, message, involvedObject } of told) {
          t.match({ type, kind: involvedObject.kind }, { type: 'Warning', kind: 'Pod' })
          t.match(
            message,
            /^PSTN_API_UNAVAILABLE: the certificate is not renewed: \d+ attempts have failed since 20.*; it is valid for (?:1 min )?\d+ s more, until /,
          )
        }
        for (const replica of replicas) {
          const { code, out } = await postern(replica)
          t.equal(code, 1)
          t.match(
            out,
            /^IN DANGER: 2 of 4\. Nearest: shop\/(?:web|db), failing, expires in (?:1 min )?\d+ s \(PSTN_API_UNAVAILABLE, /,
          )
        }
      },
    )

    await t.test('and so is its end', async t => {
      await kube.patch(ROLE, 'application/merge-patch+json', { rules })
      await patiently(async () => (await events('CertificateRenewed')).length === 2)
      const over = await events('CertificateRenewed')
      t.same(over.map(({ involvedObject }) => involvedObject.uid).sort(), [web.uid, db.uid].sort())
      t.equal(await inHealth('good'), 2)
      t.equal((await events('CertificateNotRenewed')).length, 2)
      const { code, out } = await postern(second)
      t.equal(code, 0, out)
    })

    await t.test('a replica that is gone is said to be missing while its pod is there', async t => {
      await second.running.stop('SIGKILL')
      const { code, out } = await postern(first)
      t.equal(code, 1)
      t.match(out, /^replica injector-1 did not answer \(PSTN_CONTROL_LOST: .*ECONNREFUSED/m)
    })
  },
)

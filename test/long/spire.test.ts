// The SPIFFE Workload API of a real SPIRE: a sidecar with its SVIDs beside one with the CSR API, while they rotate, while the
// agent is killed, and when the server takes the identity back. Long only for the minutes in which SPIRE is built.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { fromSecret, type SecretObject } from '../../injector/ca/material.ts'
import { CA_SECRET, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { PROXY_UID } from '../../shared/ports.ts'
import { until } from '../kube/support/installation.ts'
import { startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isReady, metricsOf, openIn, startMesh } from '../support/netns-mesh.ts'
import { requireApiServer, requireCommands, requireGo, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { startSpire } from '../support/spire.ts'

const PORT = 8080
const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/spire'
/** SPIRE rotates at half of it. */
const TTL_SECONDS = 20
const ROTATIONS = 3

/** Longer than the other tests need: an agent's pace is its own. */
async function patiently(done: () => boolean): Promise<void> {
  for (let tries = 0; tries < 900; tries += 1) {
    if (done()) return
    await delay(100)
  }
  throw new Error('not within 90 seconds')
}

const skip = requireNetns() || requireApiServer() || requireGo() || requireCommands('gcc')

t.test('a real SPIRE', { skip }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const path = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/secrets/${CA_SECRET}`
  const { root } = fromSecret(await mesh.kube.get<SecretObject>(path), 'cluster.local', Date.now())
  const spire = stack.use(
    await startSpire({ directory: scratchDirectory(t), trustDomain: 'cluster.local', root }),
  )
  // Of another workload, that the agent knows the same processes by.
  await spire.register('spiffe://cluster.local/other', PROXY_UID, TTL_SECONDS)
  let entry = await spire.register(IDENTITY, PROXY_UID, TTL_SECONDS)
  const annotations = {
    'postern.dev/certificate-source': 'workload-api',
    'postern.dev/certificate-volume': 'agent',
  }
  const [pod, other] = await Promise.all([
    mesh.start('spire', { annotations, volumes: { agent: spire.volume } }),
    mesh.start('other'),
  ])
  const [app, otherApp] = await Promise.all([
    startApplication(pod.namespace),
    startApplication(other.namespace),
  ])
  await Promise.all([app.serveHttp({ port: PORT }), otherApp.serveHttp({ port: PORT })])
  const taken = () => pod.lines.filter(({ msg }) => msg === 'certificate taken')

  /** Requests both ways until `work` is done, and what came of them. */
  const under = async (work: () => Promise<void>) => {
    let over = false
    const counts: Record<string, number> = {}
    const load = async (from: typeof app, host: string) => {
      while (!over) {
        const some = await from.requestMany({ host, port: PORT, count: 50, connections: 2, bytes: 500 })
        for (const [outcome, count] of Object.entries(some)) counts[outcome] = (counts[outcome] ?? 0) + count
        await delay(20)
      }
    }
    const loads = [load(app, other.ipv4), load(otherApp, pod.ipv4)]
    await work()
    over = true
    await Promise.all(loads)
    return counts
  }

  await t.test('gives the sidecar its SVID, the one of its identity', async t => {
    t.match(taken()[0], { identity: IDENTITY, source: /^unix:.*spire-agent.sock$/ })
    t.ok(await isReady(pod))
  })

  await t.test('rotates it, and no request is lost', async t => {
    const before = taken().length
    const counts = await under(() => patiently(() => taken().length >= before + ROTATIONS))
    t.strictSame(Object.keys(counts), ['200'], JSON.stringify(counts))
    t.comment(`${counts['200']} requests, ${taken().length - before} rotations`)
  })

  await t.test('is killed and comes back: what was held serves, and the next SVID is taken', async t => {
    const counts = await under(async () => {
      await spire.killAgent()
      await delay(7_000)
      const before = taken().length
      await spire.startAgent()
      await patiently(() => taken().length > before)
    })
    t.strictSame(Object.keys(counts), ['200'], JSON.stringify(counts))
    await pod.line(({ code, level }) => code === 'PSTN_SOURCE_UNAVAILABLE' && level === 'warn')
    t.notOk(pod.lines.some(({ msg }) => msg === 'certificate withdrawn'))
  })

  await t.test(
    'takes the identity back: connections end, the pod is not ready, until it is given again',
    async t => {
      const script: Script = [{ do: 'send', bytes: 1 }, { do: 'receiveReset' }]
      await otherApp.serve({
        port: 7000,
        meet: true,
        script: [{ do: 'receive', bytes: 1 }, { do: 'receiveReset' }],
      })
      const dialled = app.dial({ host: other.ipv4, port: 7000, introduce: 1, script })
      await until(async () => (await openIn(pod)) > 0)
      await spire.unregister(entry)
      t.match(await pod.line(({ msg }) => msg === 'certificate withdrawn'), {
        code: 'PSTN_SOURCE_NO_IDENTITY',
      })
      t.match(await dialled, { done: script.length })
      await until(async () => !(await isReady(pod)))
      t.equal((await metricsOf(pod))('postern_certificate_expiry_timestamp_seconds'), 0)
      t.notMatch(
        await otherApp.requestMany({ host: pod.ipv4, port: PORT, count: 5, connections: 1, bytes: 1 }),
        { 200: Number },
      )
      const before = taken().length
      entry = await spire.register(IDENTITY, PROXY_UID, TTL_SECONDS)
      await patiently(() => taken().length > before)
      await until(() => isReady(pod))
      t.strictSame(
        await otherApp.requestMany({ host: pod.ipv4, port: PORT, count: 5, connections: 1, bytes: 1 }),
        {
          '200': 5,
        },
      )
    },
  )
})

// The gate with nothing faked but the kubelet (support/netns-mesh.ts): what two sidecars do for two applications.
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { NAMESPACE_LABELS } from '../../shared/injection/annotations.ts'
import { POLICY_LABEL } from '../../shared/names.ts'
import { PORTS } from '../../shared/ports.ts'
import { until } from '../kube/support/installation.ts'
import type { LogLine } from '../support/namespace-kubelet.ts'
import { startAgent } from '../support/netns-client.ts'
import { isConnection, isReady, startMesh } from '../support/netns-mesh.ts'
import { settingsOf } from '../support/pods.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const APP_UID = 1000
const APP_PORT = 8080
const FAMILIES = ['ipv4', 'ipv6'] as const
/** Renewed after 3 to 5 seconds. */
const LEAF_SECONDS = 10

const idOf = (serviceAccount: string) => `spiffe://cluster.local/ns/shop/sa/${serviceAccount}`

const identityOf = (line: LogLine) => Reflect.get(Object(line.source), 'identity')
const serialOf = (line: LogLine) => Reflect.get(Object(line.source), 'serial')

t.test('two sidecars', { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const { server, kube, network, injector, start } = await startMesh(t, stack, { leafSeconds: LEAF_SECONDS })
  const [serverPod, clientPod] = await Promise.all([start('server'), start('client')])
  const plain = await network.createPod('plain')
  const [serverApp, clientApp, plainApp] = await Promise.all([
    startAgent(serverPod.namespace, { uid: APP_UID }),
    startAgent(clientPod.namespace, { uid: APP_UID }),
    startAgent(plain, { uid: APP_UID }),
  ])
  await serverApp.serve({ by: 'server', host: '::', port: APP_PORT })

  await t.test('both become ready with a certificate, trust and policy', async t => {
    await until(async () => (await isReady(serverPod)) && (await isReady(clientPod)))
    t.match(await serverPod.line(({ msg }) => msg === 'certificate issued'), { identity: idOf('server') })
    t.match(await clientPod.line(({ msg }) => msg === 'state applied'), { version: 1 })
  })

  await t.test('the kubelet’s start-up probe is answered through the inbound rule', async t => {
    const { startupPath } = settingsOf(serverPod.pod)
    for (const family of FAMILIES) {
      const host = family === 'ipv4' ? serverPod.ipv4 : `[${serverPod.ipv6}]`
      t.equal((await fetch(`http://${host}:${PORTS.startup}${startupPath}`)).status, 200, family)
      t.equal((await fetch(`http://${host}:${PORTS.startup}/guess`)).status, 404, family)
    }
  })

  for (const family of FAMILIES) {
    await t.test(`${family}: an application that speaks first is heard through both sidecars`, async t => {
      const host = serverPod[family]
      t.match(await clientApp.dial({ host, port: APP_PORT }), { by: 'server', peer: host })
      const inbound = await serverPod.line(
        line => line.msg === 'connection' && Reflect.get(Object(line.destination), 'address') === host,
      )
      t.match(inbound, {
        direction: 'inbound',
        via: 'tunnel',
        source: { identity: idOf('client'), address: clientPod[family] },
        destination: { address: host, port: APP_PORT },
        outcome: 'ok',
      })
      t.match(await clientPod.line(isConnection({ direction: 'outbound', via: 'tunnel' })), {
        destination: { identity: idOf('server'), pod: 'shop/server' },
      })
    })

    await t.test(`${family}: plaintext of a pod without a sidecar passes in permissive mode`, async t => {
      const host = serverPod[family]
      t.match(await plainApp.dial({ host, port: APP_PORT }), { by: 'server' })
      await serverPod.line(isConnection({ via: 'plaintext', outcome: 'ok' }))
    })

    await t.test(`${family}: the capture ports cannot be reached, and nothing is relayed`, async t => {
      const host = serverPod[family]
      for (const port of [PORTS.outbound, PORTS.inbound]) {
        t.equal(await plainApp.dial({ host, port }), 'ECONNRESET', `${port}`)
      }
      await serverPod.line(isConnection({ outcome: 'refused', code: 'PSTN_OWN_PORT' }))
    })
  }

  await t.test('an address of the cluster that nothing live has is refused', async t => {
    // The dial itself gives up about when the directory does.
    t.match(await clientApp.dial({ host: '10.77.0.200', port: APP_PORT }), /^ECONNRESET|timeout$/)
    const line = await clientPod.line(isConnection({ outcome: 'refused', code: 'PSTN_ADDRESS_UNKNOWN' }))
    t.match(line, { destination: { address: '10.77.0.200', port: APP_PORT } })
  })

  await t.test('certificates rotate three times while every request succeeds', async t => {
    const serials = () => new Set(serverPod.lines.filter(identityOf).map(serialOf))
    const before = serials().size
    const deadline = performance.now() + 60_000
    let requests = 0
    while (serials().size < before + 3 && performance.now() < deadline) {
      for (const family of FAMILIES) {
        const answer = await clientApp.dial({ host: serverPod[family], port: APP_PORT })
        if (typeof answer === 'string') t.fail(answer)
        requests += 1
      }
      await delay(20)
    }
    t.ok(serials().size >= before + 3, `${serials().size} certificates of the client were seen`)
    t.comment(`${requests} requests`)
  })

  await t.test('a policy that is written holds within a second, and its removal too', async t => {
    const path = '/api/v1/namespaces/shop/configmaps'
    const host = serverPod.ipv4
    await kube.create(path, {
      metadata: { name: 'policy', labels: { [POLICY_LABEL]: 'true' } },
      data: { 'deny.yaml': DENY_CLIENT },
    })
    const started = performance.now()
    await until(async () => (await clientApp.dial({ host, port: APP_PORT })) === 'ECONNRESET')
    t.ok(performance.now() - started < 1_000, `${Math.round(performance.now() - started)} ms`)
    const policy = 'shop/no-client'
    await serverPod.line(({ msg, policy: named }) => msg === 'decision' && named === policy)
    await clientPod.line(isConnection({ outcome: 'refused', code: 'PSTN_POLICY_DENIED' }))
    await kube.delete(`${path}/policy`)
    await until(async () => typeof (await clientApp.dial({ host, port: APP_PORT })) !== 'string')
  })

  await t.test('strict refuses plaintext and lets the tunnel through', async t => {
    const path = '/api/v1/namespaces/shop'
    const labels = { [NAMESPACE_LABELS.mode.key]: 'strict' }
    await kube.patch(path, 'application/merge-patch+json', { metadata: { labels } })
    for (const family of FAMILIES) {
      const target = { host: serverPod[family], port: APP_PORT }
      await until(async () => (await plainApp.dial(target)) === 'ECONNRESET')
      t.match(await clientApp.dial(target), { by: 'server' })
    }
    await serverPod.line(isConnection({ outcome: 'refused', code: 'PSTN_PLAINTEXT_REFUSED' }))
    const metrics = await (await fetch(`http://${serverPod.ipv4}:${PORTS.status}/metrics`)).text()
    t.match(metrics, /postern_connections_refused_total\{direction="inbound",code="PSTN_PLAINTEXT_REFUSED"\}/)
    t.match(metrics, /postern_plaintext_accepted_total\{port="8080"\} [2-9]/)
  })

  await t.test('without injector and API server traffic flows', async t => {
    await injector.running.stop('SIGKILL')
    await server.stop()
    t.match(await clientApp.dial({ host: serverPod.ipv4, port: APP_PORT }), { by: 'server' })
  })

  await t.test('SIGTERM drains and ends the sidecar with 0', async t => {
    const exited = once(serverPod.sidecar, 'exit')
    serverPod.sidecar.kill('SIGTERM')
    t.same(await exited, [0, null])
    t.ok(serverPod.lines.some(({ msg }) => msg === 'draining'))
  })
})

const DENY_CLIENT = `
apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: no-client}
spec:
  action: DENY
  rules:
  - from: [{source: {serviceAccounts: [client]}}]
`

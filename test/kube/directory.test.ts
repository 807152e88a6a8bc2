// The directory's watches against a real API server: what it really sends, and that nothing is missed over an outage.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { answer } from '../../injector/directory/answer.ts'
import { createDirectory } from '../../injector/directory/directory.ts'
import { snapshotFor } from '../../injector/directory/snapshot.ts'
import { watchWorld } from '../../injector/directory/watches.ts'
import { systemClock } from '../../shared/clock.ts'
import { createLogger } from '../../shared/log.ts'
import { POLICY_LABEL } from '../../shared/names.ts'
import { startApiServer } from '../support/api-server.ts'
import { slice } from '../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../support/directory.ts'
import { requireApiServer } from '../support/requirements.ts'
import { createNamespace, createServiceAccount } from './support/installation.ts'

const POLICY = `apiVersion: policy.postern.dev/v1
kind: AuthorizationPolicy
metadata: {name: closed}
spec: {}
`

t.test('the directory follows a real API server', { skip: requireApiServer() }, async t => {
  await using undo = new AsyncDisposableStack()
  const server = undo.use(await startApiServer())
  const { kube } = server
  const log = createLogger('test', 'error')
  const stop = new AbortController()
  const context = { kube, clock: systemClock, log, signal: stop.signal }
  const directory = createDirectory({
    ...context,
    settings: WORLD_SETTINGS,
  })
  const { world } = directory
  const watches = watchWorld(directory, context)
  undo.defer(() => watches.ended)
  undo.defer(() => stop.abort())
  await watches.synced

  const until = async (test: () => boolean, ms = 5_000): Promise<number> => {
    const started = performance.now()
    while (!test()) {
      if (performance.now() - started > ms) throw new Error('not in time')
      await delay(5)
    }
    return performance.now() - started
  }
  const shop = '/api/v1/namespaces/shop'
  const createPod = async (name: string, ip: string, mesh = true) => {
    const proxy = { name: 'postern-proxy', image: 'none', restartPolicy: 'Always' }
    const { metadata } = await kube.create<{ metadata: { name: string; uid?: string }; spec: object }>(
      `${shop}/pods`,
      {
        metadata: { name },
        spec: {
          serviceAccountName: 'web',
          nodeName: 'node-1',
          containers: [{ name: 'app', image: 'none' }],
          ...(mesh && { initContainers: [proxy] }),
        },
      },
    )
    const status = { phase: 'Running', podIP: ip, podIPs: [{ ip }] }
    await kube.patch(`${shop}/pods/${name}/status`, 'application/merge-patch+json', { status })
    return metadata.uid ?? ''
  }

  await t.test('the API server tells its Service prefixes, and its own Service', async t => {
    // Both are made by the API server itself, a moment after it is ready.
    await until(() => world.serviceCidrs.size > 0 && world.services.has('default/kubernetes'), 15_000)
    const { spec } = await kube.get<{ spec: { clusterIP: string } }>(
      '/api/v1/namespaces/default/services/kubernetes',
    )
    t.ok(world.prefixes.owns(spec.clusterIP))
    t.match(answer(world, spec.clusterIP), {
      kind: 'service',
      service: 'default/kubernetes',
      ports: [{ port: 443 }],
    })
  })

  await kube.create('/api/v1/nodes', {
    metadata: { name: 'node-1', labels: { 'topology.kubernetes.io/zone': 'a' } },
    spec: { podCIDR: '10.77.0.0/24', podCIDRs: ['10.77.0.0/24'] },
  })
  await createNamespace(kube, 'shop', { 'postern.dev/mode': 'strict' })
  await createServiceAccount(kube, 'shop', 'web')

  let uid = ''
  await t.test('a pod is known by its address a moment after its status says so', async t => {
    uid = await createPod('web-0', '10.77.0.5')
    const ms = await until(() => answer(world, '10.77.0.5').kind === 'mesh')
    t.match(answer(world, '10.77.0.5'), {
      pod: { uid, name: 'web-0', identity: 'spiffe://cluster.local/ns/shop/sa/web', zone: 'a' },
    })
    t.equal(answer(world, '10.77.0.6').kind, 'unknown')
    t.ok(ms < 1_000, `${Math.round(ms)} ms`)
  })

  await t.test('a Service leads to its ready pods', async t => {
    const { spec } = await kube.create<{ metadata: object; spec: { clusterIP?: string; ports: object[] } }>(
      `${shop}/services`,
      { metadata: { name: 'web' }, spec: { ports: [{ port: 80 }] } },
    )
    const clusterIp = spec.clusterIP ?? ''
    const path = '/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices'
    const endpoint = { ip: '10.77.0.5', podUid: uid }
    await kube.create(path, slice('web-1', 'web', [{ ...endpoint, ready: true }]))
    const endpoints = () => {
      const entry = answer(world, clusterIp)
      return entry.kind === 'service' ? entry.ports[0]?.endpoints.length : undefined
    }
    await until(() => endpoints() === 1)
    await kube.patch(`${path}/web-1`, 'application/merge-patch+json', {
      endpoints: slice('', '', [{ ...endpoint, ready: false }]).endpoints,
    })
    await until(() => endpoints() === 0)
    t.pass()
  })

  await t.test(
    'mode and policy of the namespace bind the pod, ConfigMaps without the label do not',
    async t => {
      t.equal(snapshotFor(world, uid)?.policy.mode.inbound, 'strict')
      const data = { 'x.yaml': POLICY }
      await kube.create(`${shop}/configmaps`, { metadata: { name: 'other' }, data })
      await kube.create(`${shop}/configmaps`, {
        metadata: { name: 'mine', labels: { [POLICY_LABEL]: 'true' } },
        data,
      })
      const names = () => snapshotFor(world, uid)?.policy.policies.map(({ name }) => name) ?? []
      await until(() => names().length > 0)
      t.same(names(), ['shop/closed'])
      const unlabel = { metadata: { labels: { [POLICY_LABEL]: null } } }
      await kube.patch(`${shop}/configmaps/mine`, 'application/merge-patch+json', unlabel)
      await until(() => names().length === 0)
      t.pass()
    },
  )

  await t.test('what happened around an outage of the API server is known after it', async t => {
    const before = await createPod('gone', '10.77.0.9')
    await until(() => world.pods.has(before))
    log.level = 'silent'
    await server.stop()
    await delay(500)
    t.equal(answer(world, '10.77.0.5').kind, 'mesh', 'the last knowledge stays')
    await server.start()
    await kube.delete(`${shop}/pods/gone?gracePeriodSeconds=0`)
    await createPod('late', '10.77.0.10', false)
    const ms = await until(
      () => !world.pods.has(before) && answer(world, '10.77.0.10').kind === 'plain',
      30_000,
    )
    t.equal(answer(world, '10.77.0.9').kind, 'unknown')
    t.ok(ms < 20_000, `${Math.round(ms)} ms`)
  })
})

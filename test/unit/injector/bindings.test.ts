import t from 'tap'
import { startEmbeddedCluster } from '../../../embedded/cluster/server.ts'
import { bindingFor, createBindings, namespacesInMesh, planBindings } from '../../../injector/bindings.ts'
import { reduce } from '../../../injector/directory/reduce.ts'
import { createWorld } from '../../../injector/directory/world.ts'
import { connectKube } from '../../../shared/kube/rest.ts'
import { createLogger } from '../../../shared/log.ts'
import { pod } from '../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../support/directory.ts'
import { steppingClock } from '../../support/stepping-clock.ts'

const log = createLogger('test', 'error')
const GRACE = 600
const set = (...names: string[]) => new Set(names)

const table: [string, Parameters<typeof planBindings>, ReturnType<typeof planBindings>][] = [
  [
    'a namespace with sidecars and no binding gets one',
    [set('shop'), set(), new Map(), 0, GRACE],
    { create: ['shop'], remove: [], idle: new Map() },
  ],
  [
    'a namespace that has both is left alone',
    [set('shop'), set('shop'), new Map(), 0, GRACE],
    { create: [], remove: [], idle: new Map() },
  ],
  [
    'a binding that nobody needs is only noted at first',
    [set(), set('shop'), new Map(), 100, GRACE],
    { create: [], remove: [], idle: new Map([['shop', 100]]) },
  ],
  [
    'it stays for the grace period',
    [set(), set('shop'), new Map([['shop', 100]]), 699, GRACE],
    { create: [], remove: [], idle: new Map([['shop', 100]]) },
  ],
  [
    'and goes after it',
    [set(), set('shop'), new Map([['shop', 100]]), 700, GRACE],
    { create: [], remove: ['shop'], idle: new Map() },
  ],
  [
    'a pod that came in between starts the grace period anew',
    [set('shop'), set('shop'), new Map([['shop', 100]]), 699, GRACE],
    { create: [], remove: [], idle: new Map() },
  ],
]
for (const [name, args, expected] of table) {
  t.test(name, async t => {
    t.same(planBindings(...args), expected)
  })
}

const worldOf = (...pods: ReturnType<typeof pod>[]) => {
  const world = createWorld(WORLD_SETTINGS)
  reduce(world, { kind: 'list', resource: 'pods', items: pods })
  return world
}

t.test('live pods whose sidecar asks for certificates make a namespace need its binding', async t => {
  const world = worldOf(
    pod('a', { namespace: 'shop' }),
    pod('b', { namespace: 'plain', mesh: false }),
    pod('c', { namespace: 'done', phase: 'Succeeded' }),
    pod('d', { namespace: 'files', config: '{"certificateSource":{"kind":"files"}}' }),
  )
  t.same(namespacesInMesh(world), set('shop'))
})

t.test('bindings follow the pods, and nobody else’s binding is touched', async t => {
  await using cluster = await startEmbeddedCluster()
  using kube = connectKube({ server: cluster.url, token: cluster.access.adminToken })
  const names = () =>
    cluster.store
      .list('clusterrolebindings')
      .map(({ metadata }) => metadata.name)
      .sort()
  const path = '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings'
  const { labels: _, ...unlabelled } = bindingFor('bank').metadata ?? {}
  await kube.create(path, { ...bindingFor('bank'), metadata: unlabelled })

  await kube.create('/api/v1/namespaces', { metadata: { name: 'old' } })

  const clock = steppingClock()
  const bindings = createBindings({ kube, clock, log })
  const stop = new AbortController()
  await t.rejects(bindings.ensure('nowhere', stop.signal), {
    code: 'PSTN_ADMISSION_MALFORMED',
    message: 'there is no namespace nowhere',
  })
  await bindings.ensure('old', stop.signal)
  await bindings.ensure('old', stop.signal)
  t.same(names(), ['postern-workload:bank', 'postern-workload:old'])

  const running = bindings.reconcile(worldOf(pod('a', { namespace: 'shop' })), stop.signal)
  while (clock.monotonic() < 20 * 60_000) await new Promise(resolve => setTimeout(resolve, 5))
  stop.abort()
  await running
  t.same(names(), ['postern-workload:bank', 'postern-workload:shop'])
})

// etcd put back to an older state under replicas that live on: resource versions are those of before, requests that were
// answered wait again, and the CA's Secret is an older one. What heals by itself, and what is refused.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { watchList } from '../../injector/kube/watch.ts'
import { systemClock } from '../../shared/clock.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { createLogger } from '../../shared/log.ts'
import { type ApiServer, type Backup, startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { eventually } from './support/signer-cluster.ts'

const skip = requireApiServer()
const CONFIG_MAPS = '/api/v1/namespaces/default/configmaps'
const silent = createLogger('test', 'error')
silent.level = 'silent'
let server: ApiServer

t.before(async () => {
  if (!skip) server = await startApiServer()
})
t.teardown(() => server?.[Symbol.asyncDispose]())

/** What a watch of the ConfigMaps makes one believe. */
function follow(t: Test, kube: Kube, timeoutSeconds = 300) {
  const known = new Set<string>()
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  let lists = 0
  void watchList<{ metadata?: { name?: string } }>(
    kube,
    CONFIG_MAPS,
    {},
    {
      onList: items => {
        lists += 1
        known.clear()
        for (const { metadata } of items) known.add(metadata?.name ?? '')
      },
      onEvent: (type, { metadata }) => {
        if (type === 'DELETED') known.delete(metadata?.name ?? '')
        else known.add(metadata?.name ?? '')
      },
    },
    { signal: stop.signal, log: silent, clock: systemClock, timeoutSeconds },
  )
  const has = (name: string) => eventually(async () => known.has(name) || undefined, name)
  return { known, has, lists: () => lists }
}
const create = (name: string) => server.kube.create(CONFIG_MAPS, { metadata: { name } })

t.test('a watch has what there is after a restoration, and forgets what is gone', { skip }, async t => {
  await create('before')
  const backup: Backup = await server.backUp()
  const { known, has } = follow(t, server.kube)
  for (let index = 0; index < 20; index++) await create(`lost-${index}`)
  await server.kube.delete(`${CONFIG_MAPS}/before`)
  await has('lost-19')
  await eventually(async () => !known.has('before') || undefined, 'the deletion')
  await server.restore(backup)
  await create('after')
  await has('after')
  t.ok(known.has('before'))
  t.same(
    [...known].filter(name => name.startsWith('lost')),
    [],
  )
})

t.test('a watch from a version that was lost is silent, is noticed, and listed anew', { skip }, async t => {
  /** As if the list had been read before the restoration. */
  let first = true
  const kube: Kube = {
    ...server.kube,
    get: async <T>(path: string, signal?: AbortSignal): Promise<T> => {
      const answer = await server.kube.get<{ metadata: { resourceVersion: string } }>(path, signal)
      if (first) answer.metadata.resourceVersion = String(Number(answer.metadata.resourceVersion) + 100_000)
      first = false
      return answer as T
    },
  }
  const { known, has, lists } = follow(t, kube, 4)
  await eventually(async () => known.size > 0 || undefined, 'the list')
  await delay(500)
  await create('unheard')
  await delay(1_000)
  t.notOk(known.has('unheard'), 'the API server says nothing')
  await has('unheard')
  t.equal(lists(), 2)
})

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { startEmbeddedCluster } from '../../../../embedded/cluster/server.ts'
import { createDirectory } from '../../../../injector/directory/directory.ts'
import type { PolicyRecord } from '../../../../injector/directory/policies.ts'
import { policyEvent, policyReporter } from '../../../../injector/directory/policy-report.ts'
import type { Changes } from '../../../../injector/directory/world.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { connectKube } from '../../../../shared/kube/rest.ts'
import { createLogger } from '../../../../shared/log.ts'
import { pod, policies } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

const settings = { ...WORLD_SETTINGS, prefixes: ['10.0.0.0/8'] }
const log = createLogger('test', 'error')
log.level = 'silent'

t.test('changes come together, in one call, to every listener', async t => {
  const end = new AbortController()
  t.teardown(() => end.abort())
  const directory = createDirectory({ settings, clock: systemClock, log, signal: end.signal, delayMs: 20 })
  const seen: Changes[] = []
  directory.subscribe(() => {
    throw new Error('a listener that fails')
  })
  const stop = directory.subscribe(changes => seen.push(changes))
  for (const name of ['a', 'b', 'c']) {
    directory.feed({
      kind: 'set',
      resource: 'pods',
      object: pod(name, { ips: [`10.0.0.${name.charCodeAt(0)}`] }),
    })
  }
  t.equal(seen.length, 0, 'not at once')
  await delay(60)
  t.equal(seen.length, 1)
  t.same([...(seen[0]?.pods ?? [])], ['uid-a', 'uid-b', 'uid-c'])
  t.same([...(seen[0]?.addresses ?? [])], ['10.0.0.97', '10.0.0.98', '10.0.0.99'])
  directory.feed({ kind: 'set', resource: 'pods', object: pod('a', { ips: ['10.0.0.97'] }) })
  await delay(40)
  t.equal(seen.length, 1, 'the same object again is no change')
  stop()
  directory.feed({ kind: 'gone', resource: 'pods', object: pod('a') })
  await delay(40)
  t.equal(seen.length, 1, 'nothing after the end of the subscription')
})

t.test('a policy that does not parse is reported once, by the leader as an Event', async t => {
  await using cluster = await startEmbeddedCluster()
  using kube = connectKube({ server: cluster.url, token: cluster.access.adminToken })
  await kube.create('/api/v1/namespaces', { metadata: { name: 'shop' } })
  const created = async () => {
    await delay(50)
    return cluster.store.list('events')
  }
  const end = new AbortController()
  let leads = true
  const report = policyReporter({ kube, clock: systemClock, log, signal: end.signal, leads: () => leads })
  const records: PolicyRecord[] = []
  const directory = createDirectory({
    settings,
    clock: systemClock,
    log,
    signal: end.signal,
    onPolicy: record => {
      records.push(record)
      report(record)
    },
  })
  const write = (yaml: string) =>
    directory.feed({ kind: 'set', resource: 'configmaps', object: policies('rules', yaml) })
  write('broken: [')
  write('broken: [ # again')
  t.equal((await created()).length, 2, 'each set of problems')
  t.match((await created())[0], {
    type: 'Warning',
    reason: 'PolicyInvalid',
    involvedObject: { kind: 'ConfigMap', name: 'rules', namespace: 'shop' },
    message: /^PSTN_POLICY_INVALID: policy\.yaml:1:.*all that it could cover is denied/,
  })
  leads = false
  write('kind: Nothing')
  t.equal((await created()).length, 2)
  t.ok(
    (
      policyEvent(
        { namespace: 'a', name: 'b', documents: [], problems: ['x'.repeat(5_000)], inForce: 'last good' },
        0,
      ).message ?? ''
    ).length <= 1024,
  )
  end.abort()
})

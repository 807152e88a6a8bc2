import t from 'tap'
import { eventLimiter, eventOf } from '../../../../injector/webhook/events.ts'
import type { InjectionReport } from '../../../../injector/webhook/pods.ts'
import { injectionReporter } from '../../../../injector/webhook/report.ts'
import { createLogger } from '../../../../shared/log.ts'
import { createRegistry } from '../../../../shared/metrics.ts'
import { pod } from '../../../support/pods.ts'

const NOW = Date.UTC(2030, 0, 1)
const refused: InjectionReport = {
  outcome: 'refused',
  code: 'PSTN_INJECT_REFUSED',
  reason: 'spec.hostPID: no',
  namespace: 'shop',
  pod: pod(),
  dryRun: false,
}

t.test('an event about a bare pod stands on its namespace', async t => {
  t.match(eventOf(refused, 'replica-1', NOW), {
    metadata: { namespace: 'shop' },
    involvedObject: { kind: 'Namespace', name: 'shop', namespace: 'shop' },
    type: 'Warning',
    reason: 'InjectionRefused',
    message: 'web-…: PSTN_INJECT_REFUSED: spec.hostPID: no',
    firstTimestamp: '2030-01-01T00:00:00.000Z',
    reportingInstance: 'replica-1',
  })
})

t.test('an event about an owned pod stands on the controller, not on other owners', async t => {
  const owner = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web-1', uid: 'u', controller: true }
  const other = { apiVersion: 'v1', kind: 'ConfigMap', name: 'x', uid: 'v' }
  const owned = { ...pod(), metadata: { name: 'web-1-abc', ownerReferences: [other, owner] } }
  const event = eventOf({ ...refused, outcome: 'skipped', pod: owned }, 'r', NOW)
  t.match(event, {
    involvedObject: { kind: 'ReplicaSet', name: 'web-1', uid: 'u' },
    reason: 'InjectionSkipped',
  })
  t.match(event?.message, /^web-1-abc: /)
})

t.test('a sidecar that was given is a normal event', async t => {
  const { code: _c, reason: _r, ...rest } = refused
  t.match(eventOf({ ...rest, outcome: 'injected' }, 'r', NOW), { type: 'Normal', reason: 'Injected' })
})

t.test('a dry run and a second call make no event', async t => {
  t.equal(eventOf({ ...refused, dryRun: true }, 'r', NOW), undefined)
  t.equal(eventOf({ ...refused, outcome: 'unchanged' }, 'r', NOW), undefined)
})

t.test('a long reason is cut to what the API server takes', async t => {
  t.equal(eventOf({ ...refused, reason: 'x'.repeat(5000) }, 'r', NOW)?.message?.length, 1024)
})

t.test('the same event is written once in its time', async t => {
  const may = eventLimiter({ repeatMs: 1000, perMinute: 100, perNamespace: 100 })
  const shop = (what: string, now: number) => may('shop', what, now)
  t.strictSame([shop('a', 0), shop('a', 999), shop('b', 999), shop('a', 1000)], [true, false, true, true])
  t.ok(may('bank', 'a', 0), 'about another namespace it is another')
})

t.test('a flood of different events ends at the limit of the minute', async t => {
  const may = eventLimiter({ repeatMs: 1000, perMinute: 2, perNamespace: 2 })
  const shop = (what: string, now: number) => may('shop', what, now)
  t.strictSame([shop('a', 0), shop('b', 1), shop('c', 2), shop('c', 60_000)], [true, true, false, true])
})

t.test('one noisy namespace has its share, and however many there are, each other has its first', async t => {
  const may = eventLimiter({ repeatMs: 0, perMinute: 60, perNamespace: 20 })
  const flood = (namespace: string) =>
    Array.from({ length: 1_000 }, (_, n) => may(namespace, `pod-${n}`, 0)).filter(Boolean).length
  t.equal(flood('noisy'), 20)
  t.equal(flood('shop'), 20, 'the share of another is untouched')
  for (let n = 0; n < 50; n++) flood(`noisy-${n}`)
  t.ok(may('quiet', 'pod-0', 0))
  t.notOk(may('quiet', 'pod-1', 0), 'but no more than that')
  for (let n = 0; n < 1_000; n++) may(`made-${n}`, 'pod-0', 0)
  t.notOk(may('one-of-thousands', 'pod-0', 0), 'whoever makes namespaces does not flood etcd either')
})

t.test('each outcome is counted with its code, and handed to the events', async t => {
  const registry = createRegistry()
  const seen: InjectionReport[] = []
  const report = injectionReporter({
    registry,
    log: createLogger('injector', 'error'),
    event: each => seen.push(each),
  })
  report(refused)
  t.strictSame(seen, [refused])
  t.match(registry.render(), 'postern_injections_total{outcome="refused",code="PSTN_INJECT_REFUSED"} 1')
})

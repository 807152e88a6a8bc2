import t from 'tap'
import { eventOf } from '../../../../injector/webhook/events.ts'
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

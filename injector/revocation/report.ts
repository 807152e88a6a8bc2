// Says what is wrong with the ConfigMap of revocations where people look for it, and how much is in force: the log, metrics
// and an Event on the ConfigMap.
import type { Registry } from '../../shared/metrics.ts'
import { REVOCATIONS_CONFIGMAP, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import type { PolicyReporter } from '../directory/policy-report.ts'
import { eventOn, type KubeEvent, writeEvent } from '../events/event.ts'
import type { RevocationRecord } from './watch.ts'

const inForceOf = ({ revocations }: RevocationRecord): string => (revocations ? 'last good' : 'nothing')

export function revocationEvent(record: RevocationRecord, now: number): KubeEvent {
  const consequence = record.revocations
    ? 'the last good version stays'
    : 'this replica serves no sidecar and signs nothing until it can read it'
  const message = `PSTN_REVOCATION_INVALID: ${record.problems.join('. ')} (${consequence})`
  const object = { kind: 'ConfigMap', namespace: SYSTEM_NAMESPACE, name: REVOCATIONS_CONFIGMAP } as const
  return eventOn(object, { type: 'Warning', reason: 'RevocationsInvalid', message, now })
}

/** Reports each set of problems once, and what is in force when that changes. */
export function revocationReporter(reporter: PolicyReporter & { readonly registry: Registry }) {
  const { clock, log, leads, registry } = reporter
  let latest: RevocationRecord | undefined
  registry.gauge(
    'postern_revocations',
    'Entries of the list of revocations that this replica has, by kind.',
    ['kind'],
    gauge => {
      for (const kind of ['serial', 'identity', 'pod']) {
        gauge.set({ kind }, latest?.revocations?.filter(entry => entry.kind === kind).length ?? 0)
      }
    },
  )
  registry.gauge(
    'postern_revocations_invalid',
    'While the ConfigMap postern-revocations cannot be read: 1, by what is in force instead.',
    ['in_force'],
    gauge => {
      if (latest && latest.problems.length > 0) gauge.set({ in_force: inForceOf(latest) }, 1)
    },
  )
  return (record: RevocationRecord): void => {
    const before = latest
    latest = record
    const { problems, revocations, renewals } = record
    if (problems.length === 0) {
      const counts = [revocations?.length ?? 0, renewals.length]
      if (counts.some(count => count > 0) || before) {
        log.info({ revocations: counts[0], renewals: counts[1] }, 'revocations in force')
      }
      return
    }
    if (before?.problems.join('\n') === problems.join('\n')) return
    const inForce = inForceOf(record)
    log.error({ code: 'PSTN_REVOCATION_INVALID', inForce, problems }, 'revocations cannot be read')
    // A replica that cannot start may never lead.
    if (!leads() && revocations) return
    void writeEvent(reporter, revocationEvent(record, clock.now()))
  }
}

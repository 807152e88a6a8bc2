// Says what is wrong with policy ConfigMaps where people look for it: the log, a metric and an Event on the ConfigMap.
// Admission refuses most of it; what was written while the webhook was away, or before it, ends here.
import type { Clock } from '../../shared/clock.ts'
import type { Registry } from '../../shared/metrics.ts'
import { type EventWriter, eventOn, type KubeEvent, writeEvent } from '../events/event.ts'
import type { PolicyRecord } from './policies.ts'
import type { World } from './world.ts'

export function policyEvent({ namespace, name, problems, inForce }: PolicyRecord, now: number): KubeEvent {
  const consequence =
    inForce === 'deny all' ? 'all that it could cover is denied' : 'the last good version stays'
  const message = `PSTN_POLICY_INVALID: ${problems.join('. ')} (${consequence})`
  const told = { type: 'Warning', reason: 'PolicyInvalid', message, now } as const
  return eventOn({ kind: 'ConfigMap', namespace, name }, told)
}

export type PolicyReporter = EventWriter & {
  readonly clock: Clock
  /** Of all replicas the leader alone writes Events. */
  readonly leads: () => boolean
}

/** Reports each set of problems once. */
export function policyReporter(reporter: PolicyReporter) {
  const { clock, log, leads } = reporter
  const reported = new Map<string, string>()
  return (record: PolicyRecord): void => {
    const { namespace, name, problems, inForce } = record
    const key = `${namespace}/${name}`
    const text = problems.join('\n')
    if (problems.length === 0) reported.delete(key)
    if (problems.length === 0 || reported.get(key) === text) return
    reported.set(key, text)
    log.error(
      { code: 'PSTN_POLICY_INVALID', namespace, configMap: name, inForce, problems },
      'policy is invalid',
    )
    if (leads()) void writeEvent(reporter, policyEvent(record, clock.now()))
  }
}

export function worldMetrics(registry: Registry, world: World): void {
  registry.gauge(
    'postern_policies_invalid',
    'Policy ConfigMaps whose present version is not in force, by what is.',
    ['namespace', 'config_map', 'in_force'],
    gauge => {
      for (const { namespace, name, problems, inForce } of world.policies.values()) {
        if (problems.length > 0) gauge.set({ namespace, config_map: name, in_force: inForce }, 1)
      }
    },
  )
  registry.gauge('postern_directory_pods', 'Live pods in the directory.', ['mesh'], gauge => {
    let mesh = 0
    let plain = 0
    for (const pod of world.pods.values()) {
      if (!pod.live) continue
      if (pod.mesh) mesh += 1
      else plain += 1
    }
    gauge.set({ mesh: 'true' }, mesh)
    gauge.set({ mesh: 'false' }, plain)
  })
}

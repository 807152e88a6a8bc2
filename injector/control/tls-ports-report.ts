// Says which pods have ports with TLS and a sidecar that is older than those: it refuses there whoever comes without a tunnel,
// and its own log takes that for plaintext at a strict port.
import type { Clock } from '../../shared/clock.ts'
import type { Registry } from '../../shared/metrics.ts'
import { type EventWriter, eventOn, writeEvent } from '../events/event.ts'
import { EVENTS_PER_MINUTE, eventLimiter } from '../events/limiter.ts'
import type { Sidecars } from './sidecars.ts'
import type { Connected } from './stream.ts'

/** Below the hour after which an API server forgets Events; streams are opened anew more often than that. */
const TOLD_AGAIN_MS = 50 * 60_000

/** Called with a sidecar whose `closedTlsPorts` have changed, and with one that comes back: a log line, and an Event on the pod. */
export function tlsPortsReporter(reporter: EventWriter & { readonly clock: Clock }) {
  const { clock, log, signal } = reporter
  const mayTell = eventLimiter({ repeatMs: TOLD_AGAIN_MS, ...EVENTS_PER_MINUTE })
  return ({ pod, podUid, namespace, version, closedTlsPorts: ports = [] }: Connected): void => {
    if (signal.aborted || ports.length === 0) return
    if (!mayTell(namespace, `${podUid} ${ports}`, clock.monotonic())) return
    log.warn({ pod, namespace, version, ports }, 'sidecar is older than its ports with TLS')
    const message =
      `The sidecar (${version}) is older than portLevelTls: on port ${ports.join(', ')} it refuses whoever has no sidecar, ` +
      'with TLS or without (PSTN_PLAINTEXT_REFUSED). Recreate the pod'
    const object = { kind: 'Pod', namespace, name: pod, uid: podUid } as const
    const told = { type: 'Warning', reason: 'SidecarOutdated', message } as const
    void writeEvent(reporter, eventOn(object, { ...told, now: clock.now() }))
  }
}

export function tlsPortsMetric(registry: Registry, { connected }: Pick<Sidecars, 'connected'>): void {
  registry.gauge(
    'postern_sidecars_outdated',
    'Sidecars connected to this replica that are older than ports with TLS and have some: they refuse whoever comes there without a tunnel.',
    [],
    gauge => gauge.set({}, connected().filter(({ closedTlsPorts = [] }) => closedTlsPorts.length > 0).length),
  )
}

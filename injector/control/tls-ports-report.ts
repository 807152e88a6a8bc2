// Says which pods have ports with TLS and a sidecar that is older than those: it refuses there whoever comes without a tunnel,
// and its own log takes that for plaintext at a strict port.
import type { Clock } from '../../shared/clock.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { warningEvent } from '../directory/warning-event.ts'
import { EVENTS_PER_MINUTE, eventLimiter } from '../webhook/events.ts'
import type { Sidecars } from './sidecars.ts'
import type { Connected } from './stream.ts'

export type TlsPortsReporter = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Below the hour after which an API server forgets Events; streams are opened anew more often than that. */
const TOLD_AGAIN_MS = 50 * 60_000

/** Called with a sidecar whose `closedTlsPorts` have changed, and with one that comes back: a log line, and an Event on the pod. */
export function tlsPortsReporter({ kube, clock, log, signal }: TlsPortsReporter) {
  const mayTell = eventLimiter({ repeatMs: TOLD_AGAIN_MS, ...EVENTS_PER_MINUTE })
  return ({ pod, podUid, namespace, version, closedTlsPorts: ports = [] }: Connected): void => {
    if (signal.aborted || ports.length === 0) return
    if (!mayTell(namespace, `${podUid} ${ports}`, clock.monotonic())) return
    log.warn({ pod, namespace, version, ports }, 'sidecar is older than its ports with TLS')
    const message =
      `The sidecar (${version}) is older than portLevelTls: on port ${ports.join(', ')} it refuses whoever has no sidecar, ` +
      'with TLS or without (PSTN_PLAINTEXT_REFUSED). Recreate the pod'
    const object = { kind: 'Pod', namespace, name: pod, uid: podUid } as const
    kube
      .create(
        `/api/v1/namespaces/${namespace}/events`,
        warningEvent(object, 'SidecarOutdated', message, clock.now()),
        signal,
      )
      .catch(error => log.debug(failure(error, 'PSTN_API_UNAVAILABLE'), 'event not written'))
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

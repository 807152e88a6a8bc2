// The sidecars that are connected to this replica, and what was last heard of those that were and whose pods live on: a
// sidecar whose certificate has expired cannot connect, and is missed most.
import type { Clock } from '../../shared/clock.ts'
import type { Status } from '../../shared/control/messages.ts'
import type { SidecarReport } from '../../shared/control/sidecar-report.ts'
import type { Logger } from '../../shared/log.ts'
import type { Directory } from '../directory/directory.ts'
import type { Connected, StreamContext } from './stream.ts'

export type Sidecars = Pick<StreamContext, 'onConnected' | 'onStatus' | 'onTlsPortsClosed' | 'onEnded'> & {
  connected(): readonly Connected[]
  /** Of connected sidecars, and of pods that live on without a stream (`endedAt`). */
  reports(): Iterable<SidecarReport>
}

export type SidecarsOptions = {
  /** This replica’s name. */
  readonly replica: string
  readonly directory: Directory
  readonly clock: Clock
  readonly log: Logger
  /** Called with each status, and with what it says. */
  onReport?(report: SidecarReport): void
  onTlsPortsClosed?(sidecar: Connected): void
}

export function createSidecars(options: SidecarsOptions): Sidecars {
  const { replica, directory, clock, log, onReport } = options
  const connected = new Map<string, { readonly sidecar: Connected; readonly since: string }>()
  const ended = new Map<string, SidecarReport>()
  const { world } = directory
  const now = () => new Date(clock.now()).toISOString()
  const reportOf = (
    { podUid, pod, namespace, version, presented, lacks = [], told, status }: Connected,
    since: string,
  ): SidecarReport => ({
    podUid,
    pod,
    namespace,
    version,
    replica,
    roots: status?.roots ?? [],
    ...certificateOf(status, presented),
    ...(status?.renewal && { renewal: status.renewal }),
    ...(told && { state: { version: told.version, toldAt: told.at, applied: status?.stateVersion ?? 0 } }),
    ...(lacks.length > 0 && { lacks }),
    connectedSince: since,
  })
  directory.subscribe(({ pods }) => {
    for (const uid of pods) if (!world.pods.get(uid)?.live) ended.delete(uid)
  })
  return {
    onConnected: sidecar => {
      const { podUid, pod, namespace, version } = sidecar
      // The same pod again: its sidecar was restarted, and nobody has told us yet that the old stream is dead.
      connected.get(podUid)?.sidecar.close()
      connected.set(podUid, { sidecar, since: now() })
      ended.delete(podUid)
      log.info({ pod, namespace, version }, 'sidecar connected')
    },
    onStatus: sidecar => {
      const { since = now() } = connected.get(sidecar.podUid) ?? {}
      onReport?.(reportOf(sidecar, since))
    },
    onTlsPortsClosed: sidecar => options.onTlsPortsClosed?.(sidecar),
    onEnded: sidecar => {
      const { podUid, pod, namespace } = sidecar
      const known = connected.get(podUid)
      if (known?.sidecar === sidecar) {
        connected.delete(podUid)
        if (world.pods.get(podUid)?.live) {
          ended.set(podUid, { ...reportOf(sidecar, known.since), endedAt: now() })
        }
      }
      log.info({ pod, namespace }, 'sidecar disconnected')
    },
    connected: () => [...connected.values()].map(({ sidecar }) => sidecar),
    reports: function* () {
      for (const { sidecar, since } of connected.values()) yield reportOf(sidecar, since)
      yield* ended.values()
    },
  }
}

function certificateOf(
  status: Status | undefined,
  { serial, notAfter }: Connected['presented'],
): Pick<SidecarReport, 'certificate'> {
  const { certificateSerial, certificateNotAfter, certificateReceivedAt: receivedAt } = status ?? {}
  if (!certificateSerial || !certificateNotAfter) return {}
  const received = receivedAt && { receivedAt }
  return {
    certificate:
      certificateSerial === serial
        ? { serial, notAfter: notAfter.toISOString(), ...received, presented: true }
        : { serial: certificateSerial, notAfter: certificateNotAfter, ...received },
  }
}

// Writes Events about certificates that are not renewed: one when it begins, one each hour while it lasts, one when it is
// over. Never one an attempt, and never faster than a pod's share, whatever its sidecar says.
import type { Clock } from '../../shared/clock.ts'
import { healthOf } from '../../shared/control/certificate-health.ts'
import type { SidecarReport } from '../../shared/control/sidecar-report.ts'
import type { World } from '../directory/world.ts'
import { type EventWriter, writeEvent } from '../events/event.ts'
import { EVENTS_PER_MINUTE, eventLimiter } from '../events/limiter.ts'
import { failureEvent, type RenewalEvent, recoveryEvent } from './renewal-event.ts'
import type { Reports } from './reports.ts'

export type RenewalAlarm = {
  /** Called with each status of a sidecar. */
  hear(report: SidecarReport): void
  /** Until aborted: hears of sidecars that have come back to another replica than the one that told of them. */
  follow(reports: Reports, signal: AbortSignal): Promise<void>
}

export type AlarmOptions = EventWriter & {
  readonly clock: Clock
  readonly world: Pick<World, 'pods'>
}

/** `name`: of the Event; none where it could not be written. */
type Told = { readonly state: 'failing' | 'over'; name: string | undefined; readonly atMs: number }

/** Between two Events about one pod. */
const POD_SHARE_MS = 15_000
const FOLLOW_MS = 60_000

export function createRenewalAlarm(options: AlarmOptions): RenewalAlarm {
  const { clock, world, signal } = options
  const told = new Map<string, Told>()
  const mayWrite = eventLimiter({ repeatMs: 0, ...EVENTS_PER_MINUTE })

  const write = (podUid: string, state: Told['state'], event: RenewalEvent) => {
    const { name, namespace } = event.metadata
    if (signal.aborted || !mayWrite(namespace, name, clock.monotonic())) return
    const entry: Told = { state, name, atMs: clock.monotonic() }
    told.set(podUid, entry)
    void writeEvent(options, event).then(written => {
      if (!written) entry.name = undefined
    })
  }

  const tellRecovery = (report: SidecarReport, before: Told) => {
    if (before.state === 'over' && before.name !== undefined) told.delete(report.podUid)
    else write(report.podUid, 'over', recoveryEvent(report, clock.now()))
  }

  const hear = (report: SidecarReport): void => {
    const before = told.get(report.podUid)
    if (before && clock.monotonic() < before.atMs + POD_SHARE_MS) return
    const event = failureEvent(report, clock.now())
    if (!event) {
      if (before && isOver(report, clock.now())) tellRecovery(report, before)
      return
    }
    const isTold = before?.state === 'failing' && before.name === event.metadata.name
    if (!isTold) write(report.podUid, 'failing', event)
  }

  const forgetGone = () => {
    for (const uid of told.keys()) if (!world.pods.get(uid)?.live) told.delete(uid)
  }
  return {
    hear,
    follow: async (reports, stop) => {
      while (!stop.aborted) {
        await clock.sleep(FOLLOW_MS, stop).catch(() => undefined)
        forgetGone()
        if (stop.aborted || told.size === 0) continue
        const gathered = await reports.gather(stop).catch(() => undefined)
        for (const report of gathered?.reports ?? []) if (told.has(report.podUid)) hear(report)
      }
    },
  }
}

/** The first failures of the next row are not worth telling, but it is not over either. */
const isOver = (report: SidecarReport, now: number): boolean =>
  !report.renewal && healthOf(report, now) === 'good'

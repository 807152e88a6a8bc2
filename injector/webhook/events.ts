// Injection as Kubernetes Events, on what owns the pod (a pod that is being created has no uid yet, and a refused one
// never will). Best effort and limited: a crash-looping ReplicaSet must not flood etcd.
import type { CoreV1Event, V1ObjectReference } from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { INJECTOR_NAME } from '../../shared/names.ts'
import type { InjectionReport } from './pods.ts'

const REASONS = {
  injected: { type: 'Normal', reason: 'Injected' },
  skipped: { type: 'Normal', reason: 'InjectionSkipped' },
  refused: { type: 'Warning', reason: 'InjectionRefused' },
} as const

/** The API server refuses longer ones. */
const MAX_MESSAGE = 1024

/** As on the wire, where times are text. */
export type EventObject = Omit<CoreV1Event, 'firstTimestamp' | 'lastTimestamp' | 'eventTime'> & {
  readonly firstTimestamp: string
  readonly lastTimestamp: string
}

/** Undefined for what is nobody's business: dry runs, and being called again. */
export function eventOf(report: InjectionReport, instance: string, now: number): EventObject | undefined {
  const { outcome, code, reason, namespace, dryRun } = report
  if (outcome === 'unchanged' || dryRun) return undefined
  const what = code === undefined ? 'gave the pod a sidecar' : `${code}: ${reason}`
  const time = new Date(now).toISOString()
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { generateName: 'postern-', namespace },
    involvedObject: involved(report),
    ...REASONS[outcome],
    message: `${podName(report)}: ${what}`.slice(0, MAX_MESSAGE),
    source: { component: INJECTOR_NAME, host: instance },
    reportingComponent: `postern.dev/${INJECTOR_NAME}`,
    reportingInstance: instance,
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  }
}

const podName = ({ pod: { metadata } }: InjectionReport): string =>
  metadata?.name ?? `${metadata?.generateName ?? 'pod'}…`

/** The controller, else the namespace. */
function involved({ pod, namespace }: InjectionReport): V1ObjectReference {
  const owner = pod.metadata?.ownerReferences?.find(({ controller }) => controller === true)
  if (!owner) return { apiVersion: 'v1', kind: 'Namespace', name: namespace, namespace }
  const { apiVersion, kind, name, uid } = owner
  return { apiVersion, kind, name, uid, namespace }
}

export type EventLimits = {
  /** The same event about the same object at most once in this time. */
  readonly repeatMs: number
  /** Events of all kinds in one minute, and of them those about one namespace. */
  readonly perMinute: number
  readonly perNamespace: number
}

export const EVENTS_PER_MINUTE = { perMinute: 60, perNamespace: 20 } as const
const LIMITS: EventLimits = { repeatMs: 5 * 60_000, ...EVENTS_PER_MINUTE }
/** Remembered repetitions; older ones are forgotten first. */
const MAX_REMEMBERED = 1_000
/** However many namespaces are noisy, another's first Event of the minute is written, up to so many times the whole. */
const FIRSTS = 10

/** Whether an event may be written now; a repetition or a flood may not, and no namespace's flood silences another. */
export function eventLimiter({ repeatMs, perMinute, perNamespace }: EventLimits = LIMITS) {
  const last = new Map<string, number>()
  const written = new Map<string, number>()
  let minute = Number.NEGATIVE_INFINITY
  let total = 0
  return (namespace: string, what: string, nowMs: number): boolean => {
    if (nowMs >= minute + 60_000) {
      minute = nowMs
      total = 0
      written.clear()
    }
    const key = `${namespace} ${what}`
    const before = last.get(key)
    if (before !== undefined && nowMs < before + repeatMs) return false
    const own = written.get(namespace) ?? 0
    if (own >= perNamespace || total >= (own === 0 ? FIRSTS * perMinute : perMinute)) return false
    written.set(namespace, own + 1)
    total += 1
    last.delete(key)
    last.set(key, nowMs)
    if (last.size > MAX_REMEMBERED) last.delete(last.keys().next().value ?? key)
    return true
  }
}

export type EventRecorder = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  /** This replica's name. */
  readonly instance: string
  /** Ends writing. */
  readonly signal: AbortSignal
}

/** Never waits and never fails: admission does not depend on events. */
export function eventRecorder({ kube, clock, log, instance, signal }: EventRecorder) {
  const mayWrite = eventLimiter()
  return (report: InjectionReport): void => {
    const event = eventOf(report, instance, clock.now())
    if (!event || signal.aborted) return
    const { kind, name, uid } = event.involvedObject
    const what = [kind, name, uid, event.reason, report.reason].join(' ')
    if (!mayWrite(report.namespace, what, clock.monotonic())) return
    const path = `/api/v1/namespaces/${report.namespace}/events`
    kube
      .create(path, event, signal)
      .catch(error => log.debug(failure(error, 'PSTN_API_UNAVAILABLE'), 'event not written'))
  }
}

// Injection as Kubernetes Events, on what owns the pod (a pod that is being created has no uid yet, and a refused one
// never will).
import type { Clock } from '../../shared/clock.ts'
import { INJECTOR_NAME } from '../../shared/names.ts'
import { type EventWriter, eventOn, type Involved, type KubeEvent, writeEvent } from '../events/event.ts'
import { eventLimiter } from '../events/limiter.ts'
import type { InjectionReport } from './pods.ts'

const REASONS = {
  injected: { type: 'Normal', reason: 'Injected' },
  skipped: { type: 'Normal', reason: 'InjectionSkipped' },
  refused: { type: 'Warning', reason: 'InjectionRefused' },
} as const

/** Undefined for what is nobody's business: dry runs, and being called again. */
export function eventOf(report: InjectionReport, instance: string, now: number): KubeEvent | undefined {
  const { outcome, code, reason, dryRun } = report
  if (outcome === 'unchanged' || dryRun) return undefined
  const what = code === undefined ? 'gave the pod a sidecar' : `${code}: ${reason}`
  const message = `${podName(report)}: ${what}`
  return {
    ...eventOn(involved(report), { ...REASONS[outcome], message, now, host: instance }),
    reportingComponent: `postern.dev/${INJECTOR_NAME}`,
    reportingInstance: instance,
  }
}

const podName = ({ pod: { metadata } }: InjectionReport): string =>
  metadata?.name ?? `${metadata?.generateName ?? 'pod'}…`

/** The controller, else the namespace. */
function involved({ pod, namespace }: InjectionReport): Involved {
  const owner = pod.metadata?.ownerReferences?.find(({ controller }) => controller === true)
  if (!owner) return { kind: 'Namespace', name: namespace, namespace }
  const { apiVersion, kind, name, uid } = owner
  return { apiVersion, kind, name, uid, namespace }
}

export type EventRecorder = EventWriter & {
  readonly clock: Clock
  /** This replica's name. */
  readonly instance: string
}

export function eventRecorder(recorder: EventRecorder) {
  const { clock, instance, signal } = recorder
  const mayWrite = eventLimiter()
  return (report: InjectionReport): void => {
    const event = eventOf(report, instance, clock.now())
    if (!event || signal.aborted) return
    const { kind, name, uid } = event.involvedObject
    const what = [kind, name, uid, event.reason, report.reason].join(' ')
    if (mayWrite(report.namespace, what, clock.monotonic())) void writeEvent(recorder, event)
  }
}

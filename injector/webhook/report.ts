// What became of each pod that was asked about: one log line, one metric, one event. And who asks.
import type { Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import type { CallerKind } from './callers.ts'
import type { InjectionReport } from './pods.ts'

export type InjectionReporter = {
  readonly registry: Registry
  readonly log: Logger
  event(report: InjectionReport): void
}

export function injectionReporter({ registry, log, event }: InjectionReporter) {
  const injections = registry.counter(
    'postern_injections_total',
    'Pods by what injection did with them; code says why one was skipped or refused.',
    ['outcome', 'code'],
  )
  return (report: InjectionReport): void => {
    const { outcome, code = '', reason, namespace, pod, dryRun } = report
    injections.inc({ outcome, code })
    const name = pod.metadata?.name ?? pod.metadata?.generateName
    const line = { outcome, ...(code && { code, reason }), namespace, pod: name, dryRun }
    if (outcome === 'refused') log.warn(line, 'injection')
    else log.info(line, 'injection')
    event(report)
  }
}

export function reviewCounter(registry: Registry): (caller: CallerKind) => void {
  const reviews = registry.counter(
    'postern_webhook_reviews_total',
    'Reviews that were sent to the webhook; caller says whether from an address that API servers publish (api-server) or another (other).',
    ['caller'],
  )
  return caller => reviews.inc({ caller })
}

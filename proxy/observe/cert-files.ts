// What becomes of the files that applications get, as log lines and metrics.
import type { Logger } from '../../shared/log.ts'
import type { CertFilesEvent } from '../cert-files/events.ts'
import type { ProxyMetrics } from './metrics.ts'

export const observeCertFiles =
  (log: Logger, metrics: ProxyMetrics) =>
  (event: CertFilesEvent): void => {
    measure(event, metrics)
    report(event, log)
  }

function measure(event: CertFilesEvent, metrics: ProxyMetrics) {
  switch (event.kind) {
    case 'written':
      metrics.certFilesWrites.inc({ outcome: 'written' })
      return metrics.certFilesExpiry.set({}, expiry(event))
    case 'found':
      return metrics.certFilesExpiry.set({}, expiry(event))
    case 'unwritten':
      return metrics.certFilesWrites.inc({ outcome: event.error.code })
    case 'hook-due':
      return metrics.certFilesHookPending.set({}, 1)
    case 'hook-answered':
      metrics.certFilesHookCalls.inc({ outcome: 'answered' })
      return metrics.certFilesHookPending.set({}, 0)
    case 'hook-failed':
      return metrics.certFilesHookCalls.inc({ outcome: event.error.code })
  }
}

const expiry = ({ leaf }: Extract<CertFilesEvent, { kind: 'written' | 'found' }>): number =>
  (leaf?.notAfter.getTime() ?? 0) / 1000

function report(event: CertFilesEvent, log: Logger) {
  switch (event.kind) {
    case 'written':
    case 'found': {
      const { kind, leaf, ...files } = event
      const said = kind === 'written' ? 'certificate files written' : 'certificate files found'
      return log.info({ ...leaf, ...files }, said)
    }
    case 'unwritten': {
      const { error, failures, retryMs } = event
      return log.error(
        { code: error.code, error: error.message, failures, retryMs },
        'certificate files not written',
      )
    }
    case 'hook-due':
      return
    case 'hook-answered': {
      const { attempt, tookMs } = event
      return log.info({ attempt, tookMs }, 'certificate files hook answered')
    }
    case 'hook-failed': {
      const { error, attempt, retryMs } = event
      // The last one: nobody asks again.
      const level = retryMs === undefined ? 'error' : 'warn'
      const fields = {
        code: error.code,
        error: error.message,
        attempt,
        ...(retryMs !== undefined && { retryMs }),
      }
      return log[level](fields, 'certificate files hook failed')
    }
  }
}

// What became of certificate requests, counted by outcome and, for denials, by the rule that was broken.
import type { Registry } from '../../shared/metrics.ts'
import type { PodCertificateObserver } from '../podcertificates/controller.ts'

export type SignerObserver = {
  approved(): void
  denied(rule: string): void
  /** `waitedMs`: since the request was created, where nobody had to approve it by hand. */
  issued(waitedMs?: number): void
  failed(): void
  retried(): void
  podCertificate: PodCertificateObserver
}

export function signerMetrics(registry: Registry): SignerObserver {
  const requests = registry.counter(
    'postern_certificate_requests_total',
    'Certificate requests by outcome; rule names what a denied one broke.',
    ['outcome', 'rule'],
  )
  const waited = registry.histogram(
    'postern_certificate_request_wait_seconds',
    'From the creation of a sidecar’s certificate request to its certificate; the API server’s times have whole seconds.',
    [],
    [1, 2, 5, 10, 30, 60, 300, 3600],
  )
  const podCertificates = registry.counter(
    'postern_pod_certificate_requests_total',
    'PodCertificateRequests by outcome; rule names what a denied one broke, or what one waits for.',
    ['outcome', 'rule'],
  )
  const count = (outcome: string, rule = '') => requests.inc({ outcome, rule })
  return {
    approved: () => count('approved'),
    denied: rule => count('denied', rule),
    issued: waitedMs => {
      count('issued')
      if (waitedMs !== undefined) waited.observe({}, Math.max(waitedMs, 0) / 1000)
    },
    failed: () => count('failed'),
    retried: () => count('retried'),
    podCertificate: (outcome, rule = '') => podCertificates.inc({ outcome, rule }),
  }
}

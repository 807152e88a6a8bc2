// What became of certificate requests, counted by outcome and, for denials, by the rule that was broken.
import type { Registry } from '../../shared/metrics.ts'

export type SignerObserver = {
  approved(): void
  denied(rule: string): void
  issued(): void
  failed(): void
  retried(): void
}

export function signerMetrics(registry: Registry): SignerObserver {
  const requests = registry.counter(
    'postern_certificate_requests_total',
    'Certificate requests by outcome; rule names what a denied one broke.',
    ['outcome', 'rule'],
  )
  const count = (outcome: string, rule = '') => requests.inc({ outcome, rule })
  return {
    approved: () => count('approved'),
    denied: rule => count('denied', rule),
    issued: () => count('issued'),
    failed: () => count('failed'),
    retried: () => count('retried'),
  }
}

// How renewal goes, as the injector is told: since when it fails, and why. What the log says each time is here one state,
// so that whoever asks later than the first failure still learns when that was.
import type { Clock } from '../../shared/clock.ts'
import type { FailingRenewal, StatusExtensions } from '../../shared/control/messages.ts'
import type { IssuanceEvent } from './csr-source.ts'

export type RenewalRecord = {
  observe(event: IssuanceEvent): void
  get(): StatusExtensions
}

export function createRenewalRecord({ now }: Pick<Clock, 'now'>): RenewalRecord {
  let receivedAt: number | undefined
  let failing: FailingRenewal | undefined
  const took = (at: number) => {
    receivedAt = at
    failing = undefined
  }
  return {
    observe: event => {
      switch (event.kind) {
        case 'issued':
        case 'taken':
          return took(now())
        case 'restored':
          return took(event.receivedAt)
        case 'recovered':
          failing = undefined
          return
        case 'failed': {
          const { error, failures, retryMs } = event
          failing = {
            failures,
            code: error.code,
            since: failing?.since ?? iso(now()),
            retrySeconds: Math.round(retryMs / 1000),
          }
          return
        }
        case 'withdrawn':
          receivedAt = undefined
          failing = { failures: 1, code: event.error.code, since: iso(now()), retrySeconds: 0 }
          return
        case 'skewed':
      }
    },
    get: () => ({
      ...(receivedAt !== undefined && { certificateReceivedAt: iso(receivedAt) }),
      ...(failing && { renewal: failing }),
    }),
  }
}

const iso = (ms: number): string => new Date(ms).toISOString()

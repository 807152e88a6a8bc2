import t from 'tap'
import { healthOf } from '../../../../shared/control/certificate-health.ts'

const at = (hour: number): string => new Date(Date.UTC(2030, 0, 1, hour)).toISOString()
const certificate = { serial: '0a', receivedAt: at(0), notAfter: at(24) }
const renewal = (failures: number) => ({ failures, code: 'PSTN_CSR_TIMEOUT', since: at(8), retrySeconds: 60 })

const cases = [
  ['a fresh one is good', { certificate }, 1, 'good'],
  ['two failures in a row are a hiccup', { certificate, renewal: renewal(2) }, 9, 'good'],
  ['three are not', { certificate, renewal: renewal(3) }, 9, 'failing'],
  ['three quarters of its life are still good', { certificate }, 18, 'good'],
  ['less than a quarter left is late', { certificate }, 18.1, 'late'],
  ['and with one failure it is failing', { certificate, renewal: renewal(1) }, 18.1, 'failing'],
  ['what has expired has expired, whatever was tried', { certificate, renewal: renewal(9) }, 24, 'expired'],
  [
    'of a sidecar that does not say when it received it only the end counts',
    { certificate: { serial: '0a', notAfter: at(24) } },
    23.9,
    'good',
  ],
  ['none, and failures: it fails', { renewal: renewal(1) }, 1, 'failing'],
  ['none, and no word: unknown', {}, 1, 'unknown'],
] as const

for (const [name, report, hour, health] of cases) {
  t.test(name, async t => t.equal(healthOf(report, Date.UTC(2030, 0, 1) + hour * 3_600_000), health))
}

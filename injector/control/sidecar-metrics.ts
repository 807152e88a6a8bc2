// What this replica's sidecars say of their certificates, as metrics: the nearest danger without asking every pod.
import type { Clock } from '../../shared/clock.ts'
import { type Health, healthOf } from '../../shared/control/certificate-health.ts'
import type { Registry } from '../../shared/metrics.ts'
import type { Sidecars } from './sidecars.ts'

const TOLD: readonly Health[] = ['expired', 'failing', 'late', 'good', 'unknown']

export function sidecarMetrics(registry: Registry, { connected, reports }: Sidecars, clock: Clock): void {
  registry.gauge('postern_control_streams', 'Sidecars connected to this replica.', [], gauge =>
    gauge.set({}, connected().length),
  )
  registry.gauge(
    'postern_sidecar_certificates',
    'Certificates of the sidecars that are connected to this replica, by how they stand.',
    ['health'],
    gauge => {
      const counts = new Map<Health, number>(TOLD.map(health => [health, 0]))
      for (const report of reports()) {
        if (report.endedAt !== undefined) continue
        const health = healthOf(report, clock.now())
        counts.set(health, (counts.get(health) ?? 0) + 1)
      }
      for (const [health, count] of counts) gauge.set({ health }, count)
    },
  )
  registry.gauge(
    'postern_sidecar_certificate_nearest_expiry_timestamp_seconds',
    'When the first certificate of the sidecars that are connected to this replica expires, seconds since the epoch.',
    [],
    gauge => {
      let nearest = Number.POSITIVE_INFINITY
      for (const { certificate, endedAt } of reports()) {
        if (certificate && endedAt === undefined)
          nearest = Math.min(nearest, Date.parse(certificate.notAfter))
      }
      if (nearest !== Number.POSITIVE_INFINITY) gauge.set({}, nearest / 1000)
    },
  )
}

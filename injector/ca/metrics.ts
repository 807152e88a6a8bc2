// What every replica tells of the CA that it goes on with: how long its certificates last, and how far a rotation has come.
import { PHASES } from '../../shared/ca/record.ts'
import type { Live } from '../../shared/live.ts'
import type { Gauge, Registry } from '../../shared/metrics.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { recordOf } from './rotation.ts'
import type { StoredCa } from './store.ts'

/** Gives the gauge that says whether the Secret is refused. */
export function caMetrics(registry: Registry, stored: Live<StoredCa>): Gauge<never> {
  registry.gauge(
    'postern_ca_expiry_timestamp_seconds',
    'When the CA’s certificate (root or issuer) expires, seconds since the epoch. The injector renews the issuer, an operator the root.',
    ['certificate'],
    gauge => {
      const { root, issuer } = stored.get().material
      for (const [certificate, { certificate: pem }] of Object.entries({ root, issuer }))
        gauge.set({ certificate }, parseCertificate(pem).notAfter.getTime() / 1000)
    },
  )
  registry.gauge(
    'postern_ca_rotation_phase',
    '1 for the phase that the rotation of the root is in: idle, publishing or switched.',
    ['phase'],
    gauge => {
      const { phase } = recordOf(stored.get().material)
      for (const one of PHASES) gauge.set({ phase: one }, one === phase ? 1 : 0)
    },
  )
  registry.gauge(
    'postern_ca_rotation_began_timestamp_seconds',
    'When the rotation of the root that runs was begun, seconds since the epoch; absent while none runs.',
    [],
    gauge => {
      const { rotation } = recordOf(stored.get().material)
      if (rotation) gauge.set({}, Date.parse(rotation.began) / 1000)
    },
  )
  const refused = registry.gauge(
    'postern_ca_refused',
    '1 while the Secret postern-ca is gone, unusable or holds another root than the one that this replica goes on with.',
  )
  refused.set({}, 0)
  return refused
}

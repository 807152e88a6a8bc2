// What the parts that keep the sidecar supplied report, as log lines and metrics: certificates and the control stream.
import type { Logger } from '../../shared/log.ts'
import type { IssuanceEvent } from '../credentials/csr-source.ts'
import type { ControlEvent } from '../resolve/control-session.ts'
import type { ProxyMetrics } from './metrics.ts'

export const observeIssuance = (log: Logger, metrics: ProxyMetrics) => (event: IssuanceEvent) => {
  if (event.kind === 'failed') {
    const { error, failures, retryMs, lifeLeftMs } = event
    metrics.certificateRequests.inc({ outcome: error.code })
    // While the present certificate lives this costs nothing yet.
    const level = lifeLeftMs > 0 ? 'warn' : 'error'
    log[level](
      { code: error.code, error: error.message, failures, retryMs, lifeLeftMs },
      'certificate failed',
    )
    return
  }
  const { serial, identity, notAfter, generation } = event.credential
  metrics.certificateExpiry.set({}, notAfter.getTime() / 1000)
  const fields = { serial, identity, notAfter, generation }
  if (event.kind === 'restored') return log.info(fields, 'certificate restored')
  metrics.certificateRequests.inc({ outcome: 'issued' })
  log.info({ ...fields, request: event.name, tookMs: event.tookMs }, 'certificate issued')
}

export const observeControl = (log: Logger, metrics: ProxyMetrics) => (event: ControlEvent) => {
  switch (event.kind) {
    case 'connected':
      metrics.controlConnected.set({}, 1)
      return log.info(
        { injector: event.injector.address, serial: event.injector.serial },
        'control connected',
      )
    case 'applied':
      metrics.stateVersion.set({}, event.version)
      return log.info({ version: event.version }, 'state applied')
    case 'trust-refused':
      return log.error({ code: event.error.code, error: event.error.message }, 'trust bundle refused')
    case 'lost':
      metrics.controlConnected.set({}, 0)
      return log.warn(
        { code: event.error.code, error: event.error.message, retryMs: event.retryMs },
        'control lost',
      )
  }
}

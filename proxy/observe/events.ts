// What the parts beside the data path report, as log lines and metrics: certificates, the control stream, the health of
// endpoints.
import { createLineQuota } from '../../shared/line-quota.ts'
import type { Logger } from '../../shared/log.ts'
import type { IssuanceEvent } from '../credentials/csr-source.ts'
import type { ControlEvent } from '../resolve/control-session.ts'
import type { EndpointEvent } from '../resolve/services.ts'
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
  if (event.kind === 'skewed') {
    return log.warn({ code: event.error.code, error: event.error.message }, 'clock skew')
  }
  const { serial, identity, notAfter, generation } = event.credential
  metrics.certificateExpiry.set({}, notAfter.getTime() / 1000)
  const fields = { serial, identity, notAfter, generation }
  if (event.kind === 'restored') return log.info(fields, 'certificate restored')
  if (event.kind === 'recovered') return log.info(fields, 'certificate source recovered')
  metrics.certificateRequests.inc({ outcome: event.kind })
  if (event.kind === 'taken') return log.info({ ...fields, source: event.from }, 'certificate taken')
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

export const observeEndpoints = (log: Logger, metrics: ProxyMetrics) => {
  const quota = createLineQuota(log)
  let out = 0
  const count = (by: number) => {
    out += by
    metrics.ejected.set({}, out)
  }
  count(0)
  return (event: EndpointEvent) => {
    const { kind, service, endpoint } = event
    if (kind !== 'ejected') {
      count(-1)
      return log.info({ service, endpoint }, `endpoint ${kind}`)
    }
    const { code, failures, forMs } = event
    if (failures === 1) count(1)
    metrics.ejections.inc({ code })
    if (quota({ code, service })) log.warn({ code, service, endpoint, failures, forMs }, 'endpoint ejected')
  }
}

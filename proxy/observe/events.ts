// What the parts beside the data path report, as log lines and metrics: certificates, the control stream, the health of
// endpoints.
import type { Clock } from '../../shared/clock.ts'
import type { PosternError } from '../../shared/errors.ts'
import { createLineQuota } from '../../shared/line-quota.ts'
import type { Logger } from '../../shared/log.ts'
import type { KeyEvent } from '../authenticate/key-sets.ts'
import type { Credential } from '../credentials/credential.ts'
import type { IssuanceEvent } from '../credentials/csr-source.ts'
import type { ControlEvent } from '../resolve/control-session.ts'
import type { EndpointEvent } from '../resolve/services.ts'
import type { Peer } from '../tunnel/interface.ts'
import type { Direction } from './connection-record.ts'
import type { ProxyMetrics } from './metrics.ts'

export const observeIssuance = (log: Logger, metrics: ProxyMetrics, { now }: Pick<Clock, 'now'>) => {
  metrics.renewalFailures.set({}, 0)
  return (event: IssuanceEvent): void => {
    measure(event, metrics, now)
    report(event, log)
  }
}

function measure(event: IssuanceEvent, metrics: ProxyMetrics, now: () => number) {
  const holds = ({ notAfter }: Credential, receivedAt?: number) => {
    metrics.certificateExpiry.set({}, notAfter.getTime() / 1000)
    if (receivedAt !== undefined) metrics.certificateReceived.set({}, receivedAt / 1000)
    metrics.renewalFailures.set({}, 0)
  }
  switch (event.kind) {
    case 'restored':
      return holds(event.credential, event.receivedAt)
    case 'recovered':
      return holds(event.credential)
    case 'taken':
    case 'issued':
      metrics.certificateRequests.inc({ outcome: event.kind })
      if (event.kind === 'issued') metrics.issuance.observe({}, event.tookMs / 1000)
      return holds(event.credential, now())
    case 'failed':
      metrics.certificateRequests.inc({ outcome: event.error.code })
      return metrics.renewalFailures.set({}, event.failures)
    case 'withdrawn':
      metrics.certificateRequests.inc({ outcome: event.error.code })
      return metrics.certificateExpiry.set({}, 0)
    case 'skewed':
  }
}

function report(event: IssuanceEvent, log: Logger) {
  switch (event.kind) {
    case 'failed': {
      const { error, failures, retryMs, lifeLeftMs } = event
      // While the present certificate lives this costs nothing yet.
      const level = lifeLeftMs > 0 ? 'warn' : 'error'
      const fields = { code: error.code, error: error.message, failures, retryMs, lifeLeftMs }
      return log[level](fields, 'certificate failed')
    }
    case 'withdrawn':
      return log.error({ code: event.error.code, error: event.error.message }, 'certificate withdrawn')
    case 'skewed':
      return log.warn({ code: event.error.code, error: event.error.message }, 'clock skew')
    case 'restored':
      return log.info(described(event.credential), 'certificate restored')
    case 'recovered':
      return log.info(described(event.credential), 'certificate source recovered')
    case 'taken':
      return log.info({ ...described(event.credential), source: event.from }, 'certificate taken')
    case 'issued': {
      const { credential, name: request, tookMs } = event
      return log.info({ ...described(credential), request, tookMs }, 'certificate issued')
    }
  }
}

const described = ({ serial, identity, notAfter, generation }: Credential): object => ({
  serial,
  identity,
  notAfter,
  generation,
})

export const observeTrust = (log: Logger) => (error: PosternError) =>
  log.warn({ code: error.code, error: error.message }, 'trust bundle passed over')

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
      // Outages heal by themselves; this does not.
      return log[event.error.code === 'PSTN_CERT_REVOKED' ? 'error' : 'warn'](
        { code: event.error.code, error: event.error.message, retryMs: event.retryMs },
        'control lost',
      )
  }
}

/** Live connections that were closed because their peers are revoked now. */
export const observeRevoked = (log: Logger, metrics: ProxyMetrics) => {
  const quota = createLineQuota(log)
  const code = 'PSTN_PEER_REVOKED'
  return (direction: Direction, peers: readonly Peer[]) => {
    for (const { identity, address, serial, podUid } of peers) {
      metrics.refused.inc({ direction, code })
      if (!quota({ code, address, identity })) continue
      log.warn({ code, direction, peer: { identity, address, serial, podUid } }, 'tunnel closed')
    }
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

/** Keys of issuers of tokens. A failure costs nothing while the last good ones are there. */
export const observeKeys = (log: Logger, metrics: ProxyMetrics) => (event: KeyEvent) => {
  const { kind, uri } = event
  if (kind === 'failed') {
    const { code, message } = event.error
    metrics.jwksFetches.inc({ outcome: code })
    const fields = { code, error: message, uri, retryMs: event.retryMs }
    return log[event.hasKeys ? 'warn' : 'error'](fields, 'keys not fetched')
  }
  metrics.jwksFetches.inc({ outcome: 'fetched' })
  if (event.changed) log.info({ uri, keys: event.keys, unusable: event.unusable.slice(0, 5) }, 'keys fetched')
}

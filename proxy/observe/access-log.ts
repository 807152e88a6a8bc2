// What becomes of a connection, told once: one access-log line when it ends, one decision-log line when it is refused
// or ended by us, and the metrics beside them. The record is made at accept and filled in as the stages learn more.
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, type Code, type PosternError } from '../../shared/errors.ts'
import { createLineQuota, type Kind } from '../../shared/line-quota.ts'
import { createLineWriter, type Logger } from '../../shared/log.ts'
import type { HttpRequest, Observed } from '../../shared/policy/model.ts'
import {
  type Carried,
  type ConnectionRecord,
  carriedBy,
  type Direction,
  type Via,
} from './connection-record.ts'
import { createLiveConnections } from './live-connections.ts'
import type { ProxyMetrics } from './metrics.ts'

/** Why a connection was refused, or closed while it lived. */
export type Refusal = {
  readonly code: Code
  readonly reason: string
  readonly policy?: string | undefined
  readonly rule?: number | undefined
}

/** What a gate reports of each request. */
type RequestOutcome = {
  readonly request: HttpRequest | undefined
  readonly status: number
  readonly refusal: Refusal | undefined
  readonly durationMs: number
}

type Watched = 'audit' | 'dry run allows' | 'dry run denies'
type Watching = { readonly policy?: string; readonly rule?: number; readonly reason?: string }

/** What splice() and the gates report. */
type Outcome = 'ended' | 'reset' | 'aborted'

export type Observer = {
  start(direction: Direction, source: ConnectionRecord['source'], via?: Via): ConnectionRecord
  /** The destination has accepted: bytes flow from now on. */
  opened(record: ConnectionRecord): void
  refused(record: ConnectionRecord, refusal: Refusal): void
  /** What policies that decide nothing say of it, or of a request on it. */
  observed(record: ConnectionRecord, observed: Observed, request?: HttpRequest): void
  /** A request on an opened one has been answered, or refused. */
  request(record: ConnectionRecord, outcome: RequestOutcome): void
  /** An opened one has ended; `reason` is the signal's, if that ended it. */
  closed(record: ConnectionRecord, outcome: Outcome, reason: unknown): void
}

/** Of a refused request's path, in the log. */
const PATH_SHOWN = 256
const STATUS_CLASSES = ['none', '1xx', '2xx', '3xx', '4xx', '5xx']
const NOTHING: Carried = { received: 0, sent: 0 }
const OUTCOMES = { ended: 'ok', reset: 'reset', aborted: 'closed' } as const

export function createObserver(log: Logger, metrics: ProxyMetrics, clock: Clock): Observer {
  const live = createLiveConnections(metrics)
  const writeAccess = createLineWriter(log, 'info', 'connection')
  const access = (
    record: ConnectionRecord,
    { received, sent }: Carried,
    { outcome, code, policy }: { outcome: string; code?: Code | undefined; policy?: string | undefined },
  ) => {
    const { direction, via, source, startedAt, protocol } = record
    writeAccess({
      direction,
      via,
      source,
      destination: destinationOf(record),
      bytesIn: received,
      bytesOut: sent,
      protocol,
      requests: protocol && record.requests,
      durationMs: Math.round(clock.monotonic() - startedAt),
      outcome,
      code,
      policy,
    })
  }
  const quota = createLineQuota(log)
  const watchedQuota = createLineQuota(log)
  const deny = (record: ConnectionRecord, refusal: Refusal, request?: HttpRequest) => {
    const { direction, source } = record
    const destination = destinationOf(record)
    const { code, policy, rule, reason } = refusal
    const asked = request && { request: shown(request) }
    log.warn({ code, policy, rule, reason, direction, source, destination, ...asked }, 'decision')
  }
  const watched = (record: ConnectionRecord, what: Watched, decision: Watching, request?: HttpRequest) => {
    const { source } = record
    const { policy = '', rule } = decision
    metrics.policyWatched.inc({ policy, what: what.replaceAll(' ', '_') })
    if (!watchedQuota({ what, policy, rule, source })) return
    const reason = 'reason' in decision ? decision.reason : undefined
    const destination = destinationOf(record)
    log.info({ policy, rule, reason, source, destination, ...(request && { request: shown(request) }) }, what)
  }
  return {
    start: (direction, source, via) => ({
      direction,
      source,
      startedAt: clock.monotonic(),
      via,
      destination: undefined,
      endpoint: undefined,
      retries: 0,
      remote: undefined,
      traffic: { aToB: 0, bToA: 0 },
      protocol: undefined,
      requests: 0,
    }),
    opened: record => {
      const { direction, via, destination, startedAt } = record
      live.opened(record, (clock.monotonic() - startedAt) / 1000)
      if (direction === 'inbound' && via === 'plaintext') {
        metrics.plaintextAccepted.inc({ port: String(destination?.port) })
      }
    },
    refused: (record, refusal) => {
      const { code, policy } = refusal
      metrics.refused.inc({ direction: record.direction, code })
      if (!quota(kindOf(record, refusal))) return
      deny(record, refusal)
      access(record, NOTHING, { outcome: 'refused', code, policy })
    },
    observed: (record, { audit, dryRun }, request) => {
      if (audit) watched(record, 'audit', audit, request)
      if (dryRun) watched(record, dryRun.allow ? 'dry run allows' : 'dry run denies', dryRun, request)
    },
    request: (record, { request, status, refusal, durationMs }) => {
      record.requests += 1
      const protocol = record.protocol ?? 'http1'
      metrics.requests.observe(
        { protocol, status: STATUS_CLASSES[Math.floor(status / 100)] ?? 'none' },
        durationMs / 1000,
      )
      if (!refusal) return
      metrics.requestsRefused.inc({ protocol, code: refusal.code })
      if (quota(kindOf(record, refusal))) deny(record, refusal, request)
    },
    closed: (record, how, reason) => {
      const outcome = OUTCOMES[how]
      live.closed(record, outcome)
      const refusal = how === 'aborted' ? refusalOf(asPosternError(reason, 'PSTN_DRAINING')) : undefined
      if (refusal) {
        metrics.refused.inc({ direction: record.direction, code: refusal.code })
        deny(record, refusal)
      }
      access(record, carriedBy(record), { outcome, code: refusal?.code, policy: refusal?.policy })
    },
  }
}

/** Without the headers, which hold secrets. */
const shown = ({ method, host, path }: HttpRequest) => ({ method, host, path: path.slice(0, PATH_SHOWN) })

/** Refusals that are alike: of one caller, or, on the way out, of one destination. */
const kindOf = (
  { direction, source, destination }: ConnectionRecord,
  { code, policy, rule }: Refusal,
): Kind => {
  const what = { code, direction, policy, rule }
  return direction === 'inbound' ? { ...what, source } : { ...what, destination }
}

const destinationOf = ({ destination, remote, endpoint, retries }: ConnectionRecord) =>
  destination && {
    address: destination.address,
    port: destination.port,
    endpoint,
    retries: retries > 0 ? retries : undefined,
    pod: remote?.pod,
    trustDomain: remote?.trustDomain,
    host: remote?.host,
    identity: remote?.identity,
    serial: remote?.serial,
  }

/** A policy that came to forbid a live connection is named by the error that ends it. */
export const refusalOf = ({ code, message, policy, rule }: PosternError & Partial<Refusal>): Refusal => ({
  code,
  reason: message,
  policy,
  rule,
})

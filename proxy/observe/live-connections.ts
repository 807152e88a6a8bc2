// The connections that live, and the metrics that each of them has: their series are looked up once, and bytes are summed
// up when somebody collects, so that they are counted while a connection lives and cost it nothing.
import { ChurnSet } from '../../shared/churn.ts'
import type { CounterSeries, HistogramSeries } from '../../shared/metrics.ts'
import {
  type Carried,
  type ConnectionRecord,
  carriedBy,
  type Direction,
  type Via,
} from './connection-record.ts'
import type { ProxyMetrics } from './metrics.ts'

type ClosedAs = 'ok' | 'reset' | 'closed'

export type LiveConnections = {
  opened(record: ConnectionRecord, setupSeconds: number): void
  closed(record: ConnectionRecord, as: ClosedAs): void
}

/** Of one direction and way. */
type Way = {
  readonly labels: { readonly direction: Direction; readonly via: Via }
  readonly opened: CounterSeries
  readonly closed: Readonly<Record<ClosedAs, CounterSeries>>
  readonly setup: HistogramSeries
  readonly received: CounterSeries
  readonly sent: CounterSeries
  readonly live: ChurnSet<ConnectionRecord>
  /** Of connections that have ended. */
  readonly ended: Sum
  /** Of all, when it was last collected. */
  collected: Sum
}

type Sum = { -readonly [K in keyof Carried]: Carried[K] }

export function createLiveConnections(metrics: ProxyMetrics): LiveConnections {
  const ways = new Map<Direction, Map<Via, Way>>()
  const wayOf = ({ direction, via = 'plaintext' }: ConnectionRecord): Way => {
    const found = ways.get(direction)?.get(via)
    if (found) return found
    const made = createWay(metrics, direction, via)
    const others = ways.get(direction)
    if (others) others.set(via, made)
    else ways.set(direction, new Map([[via, made]]))
    return made
  }
  metrics.onCollect(() => {
    for (const ofDirection of ways.values()) for (const way of ofDirection.values()) collect(way, metrics)
  })
  return {
    opened: (record, setupSeconds) => {
      const way = wayOf(record)
      way.live.add(record)
      way.opened.inc()
      way.setup.observe(setupSeconds)
    },
    closed: (record, as) => {
      const way = wayOf(record)
      way.live.delete(record)
      way.closed[as].inc()
      add(way.ended, carriedBy(record))
    },
  }
}

function createWay(metrics: ProxyMetrics, direction: Direction, via: Via): Way {
  const labels = { direction, via }
  const closedAs = (outcome: ClosedAs) => metrics.closed.series({ ...labels, outcome })
  return {
    labels,
    opened: metrics.opened.series(labels),
    closed: { ok: closedAs('ok'), reset: closedAs('reset'), closed: closedAs('closed') },
    setup: metrics.setup.series(labels),
    received: metrics.received.series(labels),
    sent: metrics.sent.series(labels),
    live: new ChurnSet(),
    ended: { received: 0, sent: 0 },
    collected: { received: 0, sent: 0 },
  }
}

function collect(way: Way, { open }: ProxyMetrics): void {
  const total = { ...way.ended }
  for (const record of way.live) add(total, carriedBy(record))
  way.received.inc(total.received - way.collected.received)
  way.sent.inc(total.sent - way.collected.sent)
  way.collected = total
  open.set(way.labels, way.live.size)
}

function add(to: Sum, { received, sent }: Carried): void {
  to.received += received
  to.sent += sent
}

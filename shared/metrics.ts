// A small registry in the Prometheus text format 0.0.4, because a sidecar pays for every module it loads. Label names
// are part of the types, and each metric holds a bounded number of series: what a peer sends must not grow our memory.

export type Labels<Name extends string> = { readonly [N in Name]: string }

/** One series, found once: for what is counted with every connection. */
export type CounterSeries = { inc(by?: number): void }
export type HistogramSeries = { observe(value: number): void }

export type Counter<Name extends string = never> = {
  inc(labels: Labels<Name>, by?: number): void
  series(labels: Labels<Name>): CounterSeries
}

export type Gauge<Name extends string = never> = { set(labels: Labels<Name>, value: number): void }

export type Histogram<Name extends string = never> = {
  observe(labels: Labels<Name>, value: number): void
  series(labels: Labels<Name>): HistogramSeries
}

/** Called at each collection: sets every series anew, so that what is gone is no longer reported. */
export type Collect<Name extends string> = (gauge: Gauge<Name>) => void

export type Registry = {
  counter<Name extends string = never>(
    name: string,
    help: string,
    labelNames?: readonly Name[],
  ): Counter<Name>
  gauge<Name extends string = never>(
    name: string,
    help: string,
    labelNames?: readonly Name[],
    collect?: Collect<Name>,
  ): Gauge<Name>
  /** `buckets` are upper bounds, ascending, without +Inf. */
  histogram<Name extends string = never>(
    name: string,
    help: string,
    labelNames?: readonly Name[],
    buckets?: readonly number[],
  ): Histogram<Name>
  /** Calls `listener` at each collection, before anything is rendered. */
  onCollect(listener: () => void): void
  /** Everything in the text format; the content type is METRICS_CONTENT_TYPE. */
  render(): string
}

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** Seconds: from a dial on the same node to a handshake that has almost given up. */
const LATENCY_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** Series of one metric; further label sets are dropped and counted in DROPPED. */
const MAX_SERIES = 1_000
const DROPPED = 'postern_metrics_dropped_total'
const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/

type Type = 'counter' | 'gauge' | 'histogram'
type Metric = { readonly head: string; lines(): string[] }
/** The series of one metric, by their label text. `find` gives undefined where a new one would pass the cap. */
type Series<Name extends string, Value> = {
  readonly all: Map<string, Value>
  find(labels: Labels<Name>): Value | undefined
}

export function createRegistry(maxSeries = MAX_SERIES): Registry {
  const metrics = new Map<string, Metric>()
  const collecting: (() => void)[] = []

  const define = (
    type: Type,
    name: string,
    help: string,
    labels: readonly string[],
    lines: () => string[],
  ) => {
    if (!METRIC_NAME.test(name) || !labels.every(label => LABEL_NAME.test(label)))
      throw new TypeError(`not a metric: ${name}{${labels}}`)
    if (metrics.has(name)) throw new TypeError(`metric ${name} is defined twice`)
    metrics.set(name, { head: `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}`, lines })
  }

  const series = <Name extends string, Value>(
    name: string,
    labelNames: readonly Name[],
    create: () => Value,
  ): Series<Name, Value> => {
    const all = new Map<string, Value>()
    const find = (labels: Labels<Name>) => {
      const key = labelNames.map(label => `${label}="${escapeLabel(labels[label])}"`).join(',')
      const found = all.get(key)
      if (found !== undefined) return found
      // The count of drops has one series a metric: it needs no cap and must not drop into itself.
      if (all.size >= maxSeries && name !== DROPPED) {
        dropped.inc({ metric: name })
        return undefined
      }
      const created = create()
      all.set(key, created)
      return created
    }
    return { all, find }
  }

  const counter: Registry['counter'] = (name, help, labelNames = []) => {
    const { all, find } = series(name, labelNames, () => ({ value: 0 }))
    define('counter', name, help, labelNames, () =>
      [...all].map(([key, { value }]) => line(name, key, value)),
    )
    const add = (to: { value: number } | undefined, by = 1) => {
      if (!(by >= 0)) throw new RangeError(`${name}: a counter cannot go by ${by}`)
      if (to) to.value += by
    }
    return {
      inc: (labels, by) => add(find(labels), by),
      series: labels => {
        const found = find(labels)
        return { inc: by => add(found, by) }
      },
    }
  }

  const gauge: Registry['gauge'] = (name, help, labelNames = [], collect) => {
    const { all, find } = series(name, labelNames, () => ({ value: 0 }))
    const self: Gauge<(typeof labelNames)[number]> = {
      set: (labels, value) => {
        const found = find(labels)
        if (found) found.value = value
      },
    }
    define('gauge', name, help, labelNames, () => {
      if (collect) {
        all.clear()
        collect(self)
      }
      return [...all].map(([key, { value }]) => line(name, key, value))
    })
    return self
  }

  const histogram: Registry['histogram'] = (name, help, labelNames = [], buckets = LATENCY_BUCKETS) => {
    if (!buckets.every((bound, index) => index === 0 || bound > (buckets[index - 1] ?? bound)))
      throw new TypeError(`${name}: buckets do not ascend`)
    const { all, find } = series(name, labelNames, () => ({
      counts: new Array<number>(buckets.length).fill(0),
      sum: 0,
      count: 0,
    }))
    define('histogram', name, help, labelNames, () =>
      [...all].flatMap(([key, { counts, sum, count }]) => {
        let below = 0
        const bucket = (bound: number, value: number) =>
          line(`${name}_bucket`, `${key}${key && ','}le="${number(bound)}"`, value)
        return [
          ...buckets.map((bound, index) => {
            below += counts[index] ?? 0
            return bucket(bound, below)
          }),
          bucket(Infinity, count),
          line(`${name}_sum`, key, sum),
          line(`${name}_count`, key, count),
        ]
      }),
    )
    const add = (to: ReturnType<typeof find>, value: number) => {
      if (!to) return
      const index = buckets.findIndex(bound => value <= bound)
      if (index >= 0) to.counts[index] = (to.counts[index] ?? 0) + 1
      to.sum += value
      to.count += 1
    }
    return {
      observe: (labels, value) => add(find(labels), value),
      series: labels => {
        const found = find(labels)
        return { observe: value => add(found, value) }
      },
    }
  }

  const dropped = counter(
    DROPPED,
    'Samples dropped because their metric already held its maximum of series.',
    ['metric'],
  )

  return {
    counter,
    gauge,
    histogram,
    onCollect: listener => void collecting.push(listener),
    render: () => {
      for (const listener of collecting) listener()
      // Rendered before the blocks are joined: a collection may drop samples, and says so in the same answer.
      const blocks = [...metrics.entries()].reverse().map(([, { head, lines }]) => [head, ...lines()])
      return `${blocks.reverse().flat().join('\n')}\n`
    },
  }
}

const line = (name: string, labels: string, value: number) =>
  `${name}${labels && `{${labels}}`} ${number(value)}`

const number = (value: number) => (value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value))

const escapeHelp = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')

const escapeLabel = (text: string) => escapeHelp(text).replaceAll('"', '\\"')

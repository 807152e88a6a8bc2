// Everything that is measured.
import type { Experiment, Figure, Unit } from './experiment.ts'
import { UNITS } from './experiment.ts'
import { requireFiles } from './file-limit.ts'
import { type Direction, transfer } from './load/bulk.ts'
import { h2load } from './load/h2load.ts'
import { holdStreams, paced, probeWhileBusy } from './load/processes.ts'
import { wrk } from './load/wrk.ts'
import { workingSet } from './memory-group.ts'
import { cpuSeconds, type Memory, memory } from './process-usage.ts'
import { BULK_BYTES, MAX_STREAMS } from './stage.ts'
import { percentile } from './statistics.ts'
import type { Running, SubjectName } from './subject.ts'

const FIXED_RATE_CONNECTIONS = 32
const BYTES_PER_MB = 1_000_000
const GIB = 2 ** 30

/** Figures of one load, with its name before each. */
const figures = (load: string, values: Record<string, readonly [number, Unit]>): Figure[] =>
  Object.entries(values).map(([name, [value, unit]]) => ({ measure: `${load}: ${name}`, value, unit }))

type Latencies = { readonly p50: number; readonly p99: number; readonly p999: number }

const latencies = ({ p50, p99, p999 }: Latencies) => ({
  p50: [p50, UNITS.time] as const,
  p99: [p99, UNITS.time] as const,
  'p99.9': [p999, UNITS.time] as const,
})

/** What `load` gives, and the CPU that both proxies used meanwhile. */
async function withCpu<T>({ proxies }: Running, load: () => Promise<T>): Promise<readonly [T, number]> {
  const before = cpuSeconds(proxies)
  const result = await load()
  return [result, cpuSeconds(proxies) - before]
}

const keepAlive = (connections: number, quick: readonly SubjectName[]): Experiment => ({
  name: `keep-alive-${connections}`,
  quick,
  run: async (running, { seconds }) => {
    const [result, cpu] = await withCpu(running, () => wrk(running, { connections, seconds }))
    return figures(`${connections} connection${connections > 1 ? 's' : ''}`, {
      requests: [result.requests / result.seconds, UNITS.rate],
      ...latencies(result),
      'CPU per request': [(cpu / result.requests) * 1e6, UNITS.time],
    })
  },
})

const fixedRate = (rate: number, quick: readonly SubjectName[]): Experiment => ({
  name: `fixed-rate-${rate}`,
  quick,
  run: async (running, { seconds }) => {
    const times = await paced(running, rate, FIXED_RATE_CONNECTIONS, seconds)
    const at = (share: number) => percentile(times, share)
    return figures(`${rate} requests/s`, latencies({ p50: at(0.5), p99: at(0.99), p999: at(0.999) }))
  },
})

const newConnections: Experiment = {
  name: 'new-connections',
  quick: ['postern-l4', 'envoy-l4', 'envoy-l7'],
  run: async (running, { seconds }) => {
    const load = () => wrk(running, { connections: 32, seconds, close: true })
    const [{ requests, seconds: took, p50, p99 }, cpu] = await withCpu(running, load)
    return figures('new connections', {
      connections: [requests / took, UNITS.rate],
      p50: [p50, UNITS.time],
      p99: [p99, UNITS.time],
      'CPU per connection': [(cpu / requests) * 1e6, UNITS.time],
    })
  },
}

const bulk = (direction: Direction): Experiment => ({
  name: direction,
  quick: ['postern-l4', 'envoy-l4'],
  run: async running => {
    const [seconds, cpu] = await withCpu(running, () => transfer(running, direction))
    return figures(direction, {
      throughput: [BULK_BYTES / BYTES_PER_MB / seconds, UNITS.throughput],
      'CPU per GiB': [(cpu * 1000 * GIB) / BULK_BYTES, UNITS.cpuPerGib],
    })
  },
})

const busyTunnel: Experiment = {
  name: 'busy-tunnel',
  quick: ['postern-l4', 'envoy-l4'],
  run: async (running, { probes }) => {
    const times = await probeWhileBusy(running, probes)
    return figures('new connection beside three bulk streams', {
      p50: [percentile(times, 0.5), UNITS.time],
      p99: [percentile(times, 0.99), UNITS.time],
    })
  },
}

const memoryFigures = (load: string, proxies: readonly number[]): Figure[] => {
  const each: Memory[] = proxies.map(pid => memory([pid]))
  const largest = (of: keyof Memory) => Math.max(...each.map(memory => memory[of])) / BYTES_PER_MB
  const total = (of: keyof Memory) => each.reduce((sum, memory) => sum + memory[of], 0) / BYTES_PER_MB
  const sets = proxies.map(workingSet).filter(bytes => bytes !== undefined)
  return figures(`memory, ${load}`, {
    ...(sets.length > 0 && { 'working set': [Math.max(...sets) / BYTES_PER_MB, UNITS.memory] as const }),
    private: [largest('private'), UNITS.memory],
    PSS: [largest('pss'), UNITS.memory],
    RSS: [largest('rss'), UNITS.memory],
    'private, both': [total('private'), UNITS.memory],
  })
}

const idle: Experiment = {
  name: 'idle',
  quick: ['postern-l4', 'envoy-l4'],
  not: ['direct'],
  fresh: true,
  run: async ({ proxies, readyMs }) => [
    ...memoryFigures('idle', proxies),
    { measure: 'start to ready', value: readyMs, unit: UNITS.start },
  ],
}

const openStreams = (count: number, quick: readonly SubjectName[]): Experiment => ({
  name: `streams-${count}`,
  quick,
  not: ['direct'],
  fresh: true,
  run: async running => {
    requireFiles(count * running.filesPerStream)
    await using _ = await holdStreams(running, count)
    return memoryFigures(`${count} streams`, running.proxies)
  },
})

const http2 = (name: string, clients: number, streams: number): Experiment => ({
  name,
  quick: [],
  run: async (running, { seconds }) => {
    const load = { clients, streams, seconds }
    const [result, cpu] = await withCpu(running, () => h2load(running, load))
    return figures(`HTTP/2, ${clients} × ${streams} streams`, {
      requests: [result.requests / result.seconds, UNITS.rate],
      ...latencies(result),
      'CPU per request': [(cpu / result.requests) * 1e6, UNITS.time],
    })
  },
})

export const EXPERIMENTS: readonly Experiment[] = [
  idle,
  openStreams(1_000, ['postern-l4', 'envoy-l4']),
  openStreams(MAX_STREAMS, []),
  keepAlive(1, ['direct', 'postern-l4', 'envoy-l4']),
  keepAlive(32, ['direct', 'postern-l4', 'postern-http', 'envoy-l4', 'envoy-l7']),
  keepAlive(256, []),
  fixedRate(1_000, ['postern-l4', 'envoy-l4']),
  fixedRate(5_000, []),
  newConnections,
  bulk('download'),
  bulk('upload'),
  busyTunnel,
  http2('http2-unary', 1, 1),
  http2('http2-streams', 4, 16),
]

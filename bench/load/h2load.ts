// HTTP/2 without TLS, as gRPC uses it: several streams at once on each connection, in a closed loop.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { percentile } from '../statistics.ts'
import type { Running } from '../subject.ts'

export type H2loadOptions = {
  readonly clients: number
  readonly seconds: number
  /** At once on each connection. */
  readonly streams: number
}

export type H2loadResult = {
  readonly requests: number
  readonly seconds: number
  /** Microseconds. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

export async function h2load(running: Running, options: H2loadOptions): Promise<H2loadResult> {
  const { clients, seconds, streams } = options
  const { host, port } = running.address('http2')
  const directory = await mkdtemp(join(tmpdir(), 'postern-h2load-'))
  try {
    const log = join(directory, 'requests')
    const load = ['-c', String(clients), '-m', String(streams), '-t', '1', '-D', String(seconds)]
    // As root, for the log; the uid has no part in what is measured but in being captured, which root is too.
    const output = await running.place.client.check('h2load', [
      ...load,
      '--log-file',
      log,
      `http://${host}:${port}/1k`,
    ])
    return parseH2load(output, await readFile(log, 'utf8'), seconds)
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** The log has a line a request: when it began, its status, and its duration in microseconds. @throws on failures */
export function parseH2load(output: string, log: string, seconds: number): H2loadResult {
  const requests = log
    .trimEnd()
    .split('\n')
    .map(line => line.split('\t').map(Number))
  const durations = requests.filter(([, status]) => status === 200).map(([, , duration = 0]) => duration)
  const failed = requests.length - durations.length
  if (durations.length === 0 || failed > requests.length / 1000)
    throw new Error(`${failed} of ${requests.length} requests failed: ${output}`)
  const at = (share: number) => percentile(durations, share)
  return { requests: durations.length, seconds, p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}

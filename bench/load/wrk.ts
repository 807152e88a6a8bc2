// Closed loops of HTTP/1.1 requests: each of the connections sends its next request when the last was answered.
import { fileURLToPath } from 'node:url'
import { APP_UID } from '../stage.ts'
import type { Running } from '../subject.ts'

export type WrkResult = {
  readonly requests: number
  readonly seconds: number
  /** Microseconds, from the request's first byte to the response's last. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly failed: number
}

export type WrkOptions = {
  readonly connections: number
  readonly seconds: number
  /** Each request on a connection of its own. */
  readonly close?: boolean
}

const REPORT = fileURLToPath(new URL('report.lua', import.meta.url))

export async function wrk(running: Running, { connections, seconds, close }: WrkOptions): Promise<WrkResult> {
  const { host, port } = running.address('web')
  const load = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '10s', '-s', REPORT]
  const header = close ? ['-H', 'Connection: close'] : []
  const args = [...load, ...header, `http://${host}:${port}/1k`]
  return parseWrk(await running.place.client.check('wrk', args, { uid: APP_UID }))
}

/** @throws when requests failed: what is fast by refusing is not fast. */
export function parseWrk(output: string): WrkResult {
  const [, json] = /^JSON (.*)$/m.exec(output) ?? []
  if (json === undefined) throw new Error(`wrk did not report: ${output}`)
  const { requests, microseconds, p50, p99, p999, failed } = JSON.parse(json)
  if (requests === 0 || failed > requests / 1000) throw new Error(`${failed} of ${requests} requests failed`)
  return { requests, seconds: microseconds / 1e6, p50, p99, p999, failed }
}

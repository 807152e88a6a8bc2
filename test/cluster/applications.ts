// Runs the client programs of apps/ in pods and reads what they print.
import type { Cluster } from './cluster.ts'
import { exec } from './pods.ts'

/** What http-client.ts prints. */
export type HttpSummary = {
  /** How many requests were answered with each status. */
  readonly statuses: Record<string, number>
  readonly errors: Record<string, number>
  /** Milliseconds since the epoch. */
  readonly firstErrorAt?: number
  readonly lastErrorAt?: number
  /** Body of the last answer. */
  readonly last: string
}

/** What tcp-client.ts prints. */
export type BannerSummary = {
  readonly received: string
  readonly bannerMs?: number
  readonly error?: string
}

/** What tcp-hold.ts prints. */
export type HoldSummary = {
  /** Milliseconds since the epoch. */
  readonly openedAt?: number
  readonly endedAt: number
  readonly received: number
  /** How it was ended, unless its time was over. */
  readonly error?: string
}

export const http = (cluster: Cluster, namespace: string, pod: string, url: string, ...options: string[]) =>
  program<HttpSummary>(cluster, namespace, pod, 'http-client', url, ...options)

export const banner = (cluster: Cluster, namespace: string, pod: string, host: string, port: number) =>
  program<BannerSummary>(cluster, namespace, pod, 'tcp-client', host, String(port))

/** Holds one connection for so long, or until it is ended. */
export const hold = (
  cluster: Cluster,
  namespace: string,
  pod: string,
  host: string,
  port: number,
  seconds: number,
) => program<HoldSummary>(cluster, namespace, pod, 'tcp-hold', host, String(port), String(seconds))

async function program<T>(
  cluster: Cluster,
  namespace: string,
  pod: string,
  name: string,
  ...args: string[]
): Promise<T> {
  const { stdout, stderr } = await exec(cluster, namespace, pod, 'app', 'node', `/apps/${name}.ts`, ...args)
  const [last = ''] = stdout.trim().split('\n').slice(-1)
  if (!last.startsWith('{')) throw new Error(`${name} in ${namespace}/${pod}: ${stdout}${stderr}`)
  return JSON.parse(last) as T
}

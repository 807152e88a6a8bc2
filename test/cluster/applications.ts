// Runs the client programs of apps/ in pods and reads what they print.
import type { Cluster } from './cluster.ts'
import { exec } from './pods.ts'

/** What http-client.ts prints. */
export type HttpSummary = {
  /** How many requests were answered with each status. */
  readonly statuses: Record<string, number>
  readonly errors: Record<string, number>
  /** Body of the last answer. */
  readonly last: string
}

/** What tcp-client.ts prints. */
export type BannerSummary = {
  readonly received: string
  readonly bannerMs?: number
  readonly error?: string
}

export const http = (cluster: Cluster, namespace: string, pod: string, url: string, ...options: string[]) =>
  program<HttpSummary>(cluster, namespace, pod, 'http-client', url, ...options)

export const banner = (cluster: Cluster, namespace: string, pod: string, host: string, port: number) =>
  program<BannerSummary>(cluster, namespace, pod, 'tcp-client', host, String(port))

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

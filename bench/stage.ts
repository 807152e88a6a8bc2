// The machine as every subject finds it: a client's and a server's network namespace on one bridge, and in the server's
// the same two backends. A subject differs from another in nothing but the proxies between them.
import type { ChildProcess, StdioOptions } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { chown, mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Namespace, type Network, setSysctl } from '../test/support/netns.ts'

/** Load generators and backends, which are the application: captured where a subject captures. */
export const APP_UID = 1000
export const BULK_BYTES = 2 ** 30
/** What the full run opens at once; nobody's own limit is to be lower. */
export const MAX_STREAMS = 10_000

/** What listens in every server namespace. */
export const BACKENDS = {
  /** nginx, HTTP/1.1: `/1k` and `/1g`. */
  web: 8080,
  /** `backend.ts`: counts uploads, holds streams. */
  raw: 8081,
  /** nginx, HTTP/2 without TLS: `/1k`. */
  http2: 8082,
} as const
export type Backend = keyof typeof BACKENDS

export type Place = {
  readonly client: Namespace
  readonly server: Namespace
  /** The directory that nginx serves. */
  readonly www: string
}

/** Makes a namespace fit for tens of thousands of short connections, whose ports would otherwise run out. */
async function tune(namespace: Namespace): Promise<void> {
  await setSysctl(namespace, 'net/ipv4/ip_local_port_range', '20000 65535')
  await setSysctl(namespace, 'net/ipv4/tcp_tw_reuse', '1')
  await setSysctl(namespace, 'net/core/somaxconn', '16384')
}

/** Starts the backends in a server namespace; they end with it. Returns what nginx serves. */
async function furnish(server: Namespace, directory: string): Promise<string> {
  const home = join(directory, server.name)
  await mkdir(join(home, 'www'), { recursive: true })
  await writeFile(join(home, 'www', '1k'), 'x'.repeat(1024))
  const bulk = await open(join(home, 'www', '1g'), 'w')
  await bulk.truncate(BULK_BYTES)
  await bulk.close()
  await writeFile(join(home, 'nginx.conf'), nginxConfig(home))
  await chown(home, APP_UID, APP_UID)
  const uid = APP_UID
  const nginx = ['-c', join(home, 'nginx.conf'), '-p', home, '-e', 'stderr']
  start(server, 'nginx', nginx, join(home, 'nginx.log'), { uid })
  const backend = fileURLToPath(new URL('backend.ts', import.meta.url))
  start(server, process.execPath, [backend, String(BACKENDS.raw)], join(home, 'backend.log'), { uid })
  for (const port of Object.values(BACKENDS)) await listening(server, port)
  return join(home, 'www')
}

export async function createPlace(network: Network, name: string, directory: string): Promise<Place> {
  const [client, server] = [await network.createPod(`${name}-c`), await network.createPod(`${name}-s`)]
  await Promise.all([client, server].map(tune))
  return { client, server, www: await furnish(server, directory) }
}

/** Starts a program, its output appended to a file. As root, unless a uid is given. */
export function start(
  namespace: Namespace,
  command: string,
  args: readonly string[],
  log: string,
  { uid, env }: { readonly uid?: number; readonly env?: NodeJS.ProcessEnv } = {},
): ChildProcess {
  const output = openSync(log, 'a')
  const stdio: StdioOptions = ['ignore', output, output]
  const child = namespace.spawn(command, args, { stdio, ...(uid && { uid }), ...(env && { env }) })
  closeSync(output)
  return child
}

/** The end of a program's log, for the message that it failed. */
export const lastLines = (log: string): string =>
  readFileSync(log, 'utf8').trimEnd().split('\n').slice(-10).join('\n')

const READY_MS = 20_000

/** Waits until something listens on the port, whatever its address, without connecting to it. */
export async function listening(namespace: Namespace, port: number): Promise<void> {
  const deadline = performance.now() + READY_MS
  while (performance.now() < deadline) {
    if ((await namespace.check('ss', ['-Hltn', `sport = :${port}`])).trim() !== '') return
    await delay(5)
  }
  throw new Error(`nothing listens on port ${port} of ${namespace.name} after ${READY_MS / 1000} s`)
}

function nginxConfig(home: string): string {
  return `
worker_processes 1;
daemon off;
pid ${home}/nginx.pid;
events { worker_connections 16384; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  open_file_cache max=10 inactive=1h;
  open_file_cache_valid 1h;
  default_type application/octet-stream;
  client_body_temp_path ${home}/body;
  proxy_temp_path ${home}/proxy;
  fastcgi_temp_path ${home}/fastcgi;
  uwsgi_temp_path ${home}/uwsgi;
  scgi_temp_path ${home}/scgi;
  root ${home}/www;
  server { listen ${BACKENDS.web} backlog=16384; listen [::]:${BACKENDS.web} backlog=16384; }
  # With sendfile a response's head and body are sent apart, and Nagle holds the second back for 40 ms.
  server { listen ${BACKENDS.http2} http2 backlog=16384; http2_max_concurrent_streams 1000; sendfile off; tcp_nopush off; }
}
`
}

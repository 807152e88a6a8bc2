// nginx's stream module on both sides, one worker each.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileLimit } from '../file-limit.ts'
import { BACKENDS, type Backend } from '../stage.ts'
import { Missing, type Subject } from '../subject.ts'
import { type Certificates, issueCertificates, type Side, serverName } from './peer-certificates.ts'
import { type Ports, startPair } from './proxy-pair.ts'

const INDEX = 3
const MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so'

export const nginx: Subject = {
  name: 'nginx',
  describe: () => {
    // nginx -v writes to stderr.
    const version = execFileSync('sh', ['-c', 'nginx -v 2>&1'], { encoding: 'utf8' }).split('/')[1]?.trim()
    return (
      `nginx ${version}: stream module, one worker, TLS session reuse as by default, access log to a file; ` +
      'any certificate of the CA may call, since it cannot read a SPIFFE ID'
    )
  },
  start: async context => {
    if (!existsSync(MODULE)) throw new Missing(`needs ${MODULE} (Debian: libnginx-mod-stream)`)
    const certificates = await issueCertificates(context.directory)
    return await startPair(context, { index: INDEX, filesPerStream: 2 }, async (side, ports) => {
      const file = join(context.directory, `${side}.conf`)
      const server = context.place.server.ipv4 ?? ''
      await writeFile(file, nginxConfig(side, ports, server, certificates, context.directory))
      return { command: 'nginx', args: ['-c', file, '-p', context.directory, '-e', 'stderr'] }
    })
  },
}

function nginxConfig(
  side: Side,
  ports: Ports,
  server: string,
  { chain, key, root }: Certificates,
  directory: string,
): string {
  const relay = (backend: Backend) => {
    const port = ports[side][backend]
    const [listen, target] =
      side === 'client'
        ? [`127.0.0.1:${port}`, `${server}:${ports.server[backend]}`]
        : [`0.0.0.0:${port} ssl`, `${server}:${BACKENDS[backend]}`]
    return `  server { listen ${listen} backlog=16384; proxy_pass ${target}; }\n`
  }
  const originate = `
  proxy_ssl on;
  proxy_ssl_protocols TLSv1.3;
  proxy_ssl_certificate ${chain[side]};
  proxy_ssl_certificate_key ${key[side]};
  proxy_ssl_trusted_certificate ${root};
  proxy_ssl_verify on;
  proxy_ssl_name ${serverName('server')};
`
  const terminate = `
  ssl_protocols TLSv1.3;
  ssl_certificate ${chain[side]};
  ssl_certificate_key ${key[side]};
  ssl_client_certificate ${root};
  ssl_verify_client on;
`
  return `
load_module ${MODULE};
worker_processes 1;
daemon off;
pid ${directory}/${side}.pid;
worker_rlimit_nofile ${fileLimit()};
events { worker_connections ${fileLimit()}; }
stream {
  log_format relay '$remote_addr [$time_local] $status $bytes_sent $bytes_received $session_time $upstream_addr';
  access_log ${directory}/${side}-access.log relay;
  proxy_timeout 1h;
  tcp_nodelay on;
  ${side === 'client' ? originate : terminate}
${(Object.keys(BACKENDS) as Backend[]).map(relay).join('')}}
`
}

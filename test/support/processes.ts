// Programs that a test starts: logged to a file, ended with the test, their last words shown when they fail to start.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { findCommand } from './requirements.ts'

export type Program = {
  readonly command: string
  readonly args: readonly string[]
  /** Receives stdout and stderr; appended to. */
  readonly log: string
}

const STOP_TIMEOUT_MS = 10_000

export type Running = AsyncDisposable & {
  readonly pid: number
  /** `null` while it runs. */
  readonly ended: () => string | null
  stop(signal?: NodeJS.Signals): Promise<void>
}

/** Starts `program`; on Linux it dies with this process, even if that is killed. */
export function startProgram({ command, args, log }: Program): Running {
  const output = openSync(log, 'a')
  const guard = findCommand('setpriv')
  const argv = guard ? [guard, '--pdeathsig', 'KILL', command, ...args] : [command, ...args]
  const child = spawn(argv[0] ?? command, argv.slice(1), { stdio: ['ignore', output, output] })
  closeSync(output)
  let end: string | null = null
  child.on('error', error => {
    end = error.message
  })
  child.on('exit', (code, signal) => {
    end = `ended with ${signal ?? `exit code ${code}`}`
  })
  const stop = (signal: NodeJS.Signals = 'SIGTERM') => stopChild(child, signal)
  return { pid: child.pid ?? 0, ended: () => end, stop, [Symbol.asyncDispose]: () => stop() }
}

async function stopChild(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const { promise: exited, resolve } = Promise.withResolvers<void>()
  child.once('exit', () => resolve())
  child.kill(signal)
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
  await exited
  clearTimeout(timer)
}

/** Asks `ready` until it answers true; fails with the end of the program's log when it ended or time is up. */
export async function waitUntilReady(
  what: string,
  ready: () => Promise<boolean>,
  { timeoutMs, running, log }: { timeoutMs: number; running?: Running; log?: string },
): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    if (await ready().catch(() => false)) return
    const end = running?.ended()
    if (end || performance.now() > deadline)
      throw new Error(`${what}: ${end ?? `not ready after ${timeoutMs} ms`}${log ? await tail(log) : ''}`)
    await delay(50)
  }
}

const tail = async (log: string): Promise<string> =>
  `\n${(await readFile(log, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-15).join('\n')}`

/** `count` free TCP ports of `address`, distinct; somebody else may take one before it is used. */
export async function freePorts(count: number, address = '127.0.0.1'): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer())
  const ports = await Promise.all(
    servers.map(async server => {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      server.on('error', reject).listen(0, address, resolve)
      await promise
      const bound = server.address()
      return typeof bound === 'object' && bound ? bound.port : 0
    }),
  )
  for (const server of servers) server.close()
  return ports
}

export type Output = { readonly stdout: string; readonly stderr: string; readonly code: number }

/** Runs a command to its end, whatever its exit code. */
export async function run(command: string, args: readonly string[], stdin?: string): Promise<Output> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
  child.stdin.on('error', () => {}).end(stdin)
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number>((resolve, reject) =>
      child.on('error', reject).on('close', code => resolve(code ?? 1)),
    ),
  ])
  return { stdout, stderr, code }
}

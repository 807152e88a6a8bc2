// The cluster's own network, process and mount namespaces. Everything of it lives inside, so that killing one process
// removes it all: containers, mounts, addresses, rules. A veth pair lets tests on the host reach the API server.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Output, run } from '../support/processes.ts'
import { builtBinary } from './binaries.ts'

/** The node's address inside: API server, kubelet, DNS. */
export const NODE_ADDRESS = '10.243.0.1'
export const POD_CIDR = '10.244.0.0/24'

export type Sandbox = {
  /** Process on the host whose end is the end of the sandbox; `started` tells it from a later one of the same id. */
  readonly keeper: number
  readonly started: string
  /** Process 1 of the sandbox, as the host counts. */
  readonly first: number
  /** Both ends of the veth pair. */
  readonly hostAddress: string
  readonly insideAddress: string
  readonly directory: string
}

export async function createSandbox(name: string, directory: string): Promise<Sandbox> {
  const pause = await builtBinary('pause')
  const log = openSync(join(directory, 'sandbox.log'), 'a')
  const child = spawn(
    'unshare',
    ['--fork', '--kill-child', '--pid', '--mount', '--net', '--ipc', '--mount-proc', pause],
    { detached: true, stdio: ['ignore', log, log] },
  )
  closeSync(log)
  child.unref()
  const keeper = child.pid
  if (keeper === undefined) throw new Error('cannot start unshare')
  const sandbox: Sandbox = {
    keeper,
    started: await startTime(keeper),
    first: await onlyChild(keeper),
    ...addressesFor(name),
    directory,
  }
  await writeFile(sandboxFile(directory), JSON.stringify(sandbox))
  const veth = `pst-${name}`.slice(0, 15)
  await must('ip', [
    'link',
    'add',
    veth,
    'type',
    'veth',
    'peer',
    'name',
    'host0',
    'netns',
    String(sandbox.first),
  ])
  await must('ip', ['address', 'add', `${sandbox.hostAddress}/30`, 'dev', veth])
  await must('ip', ['link', 'set', veth, 'up'])
  await must(...inside(sandbox, 'sh', '-ec', SETUP, 'sh', NODE_ADDRESS, sandbox.insideAddress))
  return sandbox
}

/** State that programs keep at fixed places lands in memory, and is gone with the sandbox. */
const SETUP = `
mount --make-rshared /
for directory in /run /var/log /var/lib; do mount -t tmpfs -o mode=755 tmpfs $directory; done
mkdir -p /run/netns /var/lib/cni
ip link set lo up
ip address add $2/30 dev host0
ip link set host0 up
ip link add node0 type bridge
ip address add $1/32 dev node0
ip link set node0 up
ip route add default dev node0
echo 1 > /proc/sys/net/ipv4/ip_forward
`

/** Kills everything inside. */
export async function destroySandbox(sandbox: Sandbox): Promise<void> {
  if (!(await isAlive(sandbox))) return
  process.kill(sandbox.keeper, 'SIGKILL')
  for (let waited = 0; waited < 10_000; waited += 50) {
    if (!(await exists(sandbox.first))) return
    await delay(50)
  }
  throw new Error(`process ${sandbox.first} of the cluster does not end`)
}

export async function isAlive({ keeper, started }: Sandbox): Promise<boolean> {
  return (await startTime(keeper).catch(() => '')) === started
}

/** `command` to be run inside, as arguments for `run` or `spawn`. */
export function inside({ first }: Sandbox, ...command: string[]): [string, string[]] {
  return ['nsenter', [`--target=${first}`, '--mount', '--net', '--pid', '--ipc', '--', ...command]]
}

/** Starts a program inside that outlives this process. Its output is in NAME.log, its process id (inside) in NAME.pid. */
export function startInside(
  sandbox: Sandbox,
  name: string,
  command: string,
  args: readonly string[],
  path = process.env.PATH ?? '',
): void {
  const log = openSync(join(sandbox.directory, `${name}.log`), 'a')
  const pidFile = join(sandbox.directory, `${name}.pid`)
  const [program, argv] = inside(sandbox, 'sh', '-c', 'echo $$ > "$0"; exec "$@"', pidFile, command, ...args)
  const child = spawn(program, argv, {
    detached: true,
    stdio: ['ignore', log, log],
    env: { PATH: path, HOME: sandbox.directory },
  })
  closeSync(log)
  child.unref()
}

/** Kills a program that startInside started, and waits for its end. */
export async function stopInside(
  sandbox: Sandbox,
  name: string,
  signal: 'TERM' | 'KILL' = 'TERM',
): Promise<void> {
  const pid = (await readFile(join(sandbox.directory, `${name}.pid`), 'utf8')).trim()
  const script = `kill -${signal} ${pid}; while kill -0 ${pid}; do sleep 0.05; done`
  await run(...inside(sandbox, 'sh', '-c', script))
}

export async function runsInside(sandbox: Sandbox, name: string): Promise<boolean> {
  const pid = await readFile(join(sandbox.directory, `${name}.pid`), 'utf8').catch(() => '')
  return pid !== '' && (await run(...inside(sandbox, 'kill', '-0', pid.trim()))).code === 0
}

export async function must(command: string, args: readonly string[], stdin?: string): Promise<Output> {
  const output = await run(command, args, stdin)
  if (output.code !== 0)
    throw new Error(
      `${command} ${args.slice(-4).join(' ')}: exit code ${output.code}\n${output.stderr.trim()}`,
    )
  return output
}

const sandboxFile = (directory: string): string => join(directory, 'sandbox.json')

export async function loadSandbox(directory: string): Promise<Sandbox | undefined> {
  const text = await readFile(sandboxFile(directory), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text) as Sandbox)
}

/** Link-local, so that two clusters and whatever the host uses do not meet. */
function addressesFor(name: string): { hostAddress: string; insideAddress: string } {
  const third = 100 + ((createHash('sha256').update(name).digest()[0] ?? 0) % 100)
  return { hostAddress: `169.254.${third}.1`, insideAddress: `169.254.${third}.2` }
}

const exists = (pid: number): Promise<boolean> =>
  startTime(pid).then(
    () => true,
    () => false,
  )

/** Clock ticks from boot to the process's start: field 22 of proc(5)'s stat. */
async function startTime(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}

async function onlyChild(pid: number): Promise<number> {
  for (let waited = 0; waited < 5_000; waited += 20) {
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
    // Set up when it has become the program: unshare mounts /proc before.
    const child = Number(children.trim())
    if (child > 0 && (await readFile(`/proc/${child}/comm`, 'utf8')).trim() === 'pause') return child
    await delay(20)
  }
  throw new Error('unshare did not start: see sandbox.log')
}

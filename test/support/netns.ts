// Pods as Linux network namespaces: each joined by a veth pair to the bridge of a node namespace, so that nftables
// rules are tested by real connections and nothing touches the machine's own interfaces or rules.
import { type ChildProcess, execFile, fork, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { dlopen } from 'node:ffi'
import { closeSync, openSync, readdirSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findCommand } from './requirements.ts'

export type Uid = { readonly uid?: number }
export type Output = { readonly status: number | null; readonly stdout: string; readonly stderr: string }

export type Namespace = {
  /** As `ip netns` knows it. */
  readonly name: string
  readonly ipv4?: string
  readonly ipv6?: string
  /** The canonical literals of the above: what status.podIPs would hold. */
  readonly addresses: readonly string[]
  /** Starts a process inside; as root, or as a uid with no capability but to read files. Ends with the namespace. */
  spawn(command: string, args: readonly string[], options?: SpawnOptions & Uid): ChildProcess
  /** Like `spawn`, to the end. */
  run(command: string, args: readonly string[], options?: Uid & { input?: string }): Promise<Output>
  /** Like `run`, for what must succeed. Returns its stdout. */
  check(command: string, args: readonly string[], options?: Uid & { input?: string }): Promise<string>
}

export type Families = { readonly ipv4: boolean; readonly ipv6: boolean }

export type Network = AsyncDisposable & {
  /** The node: its bridge connects the pods and it is their default route. Connections from it are the kubelet's. */
  readonly node: Namespace
  createPod(name: string, families?: Families): Promise<Namespace>
  /** Ends `pod` and everything in it, and gives its addresses to a new one. */
  replacePod(pod: Namespace, name: string): Promise<Namespace>
  /** Nothing reaches the pod and nothing leaves it, without a word to either side, until `mend`. */
  cut(pod: Namespace): Promise<void>
  mend(pod: Namespace): Promise<void>
  /** A namespace without any interface but lo, to be wired by the test. */
  createNamespace(name: string): Promise<Namespace>
}

const DUAL_STACK: Families = { ipv4: true, ipv6: true }
const PREFIX = 'pstn-'
let networks = 0

/**
 * A node with its bridge. Disposing ends every process inside and removes every namespace, after failures too. `beside`:
 * other addresses of the node of that network, which routes between the pods of both.
 */
export async function createNetwork(beside?: Network): Promise<Network> {
  if (!beside) await removeLeftovers()
  const id = `${PREFIX}${process.pid}-${networks++}`
  const stack = new AsyncDisposableStack()
  const add = (name: string, addresses: Addresses) => createNamespace(`${id}-${name}`, addresses, stack)
  try {
    const node = beside
      ? addressed(beside.node, BESIDE)
      : await add('node', addressesAt(FIRST, 1, DUAL_STACK))
    if (beside) await route(node)
    else await ip(node, ['link add br0 type bridge', 'link set br0 up'])
    await ip(node, assign(node, 'br0'))
    const subnet = beside ? BESIDE : FIRST
    // The veth pairs of both are the node's.
    let lastHost = beside ? 100 : 1
    const hosts = new Map<Namespace, number>()
    const addPod = async (name: string, host: number, families: Families) => {
      const pod = await add(name, addressesAt(subnet, host, families))
      await join(pod, node, host)
      hosts.set(pod, host)
      return pod
    }
    const hostOf = (pod: Namespace): number => {
      const host = hosts.get(pod)
      if (host === undefined) throw new Error(`${pod.name} is no pod`)
      return host
    }
    return {
      node,
      createPod: (name, families = DUAL_STACK) => addPod(name, ++lastHost, families),
      replacePod: async (pod, name) => {
        const host = hostOf(pod)
        await remove(pod.name)
        hosts.delete(pod)
        return addPod(name, host, { ipv4: pod.ipv4 !== undefined, ipv6: pod.ipv6 !== undefined })
      },
      cut: pod => ip(node, [`link set veth${hostOf(pod)} nomaster`]),
      mend: pod => ip(node, [`link set veth${hostOf(pod)} master br0`]),
      createNamespace: name => add(name, {}),
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    }
  } catch (thrown) {
    await stack.disposeAsync()
    throw thrown
  }
}

const FIRST = 77
const BESIDE = 78

function addressesAt(subnet: number, host: number, { ipv4, ipv6 }: Families): Addresses {
  return {
    ...(ipv4 && { ipv4: `10.${subnet}.0.${host}` }),
    ...(ipv6 && { ipv6: `fd${subnet}::${host.toString(16)}` }),
  }
}

function addressed(node: Namespace, subnet: number): Namespace {
  const { ipv4 = '', ipv6 = '' } = addressesAt(subnet, 1, DUAL_STACK)
  return { ...node, ipv4, ipv6, addresses: [ipv4, ipv6] }
}

/** Both subnets are on one wire: without a word about that to the pods, which would go around the node then. */
async function route(node: Namespace): Promise<void> {
  for (const key of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) await setSysctl(node, `net/${key}`, '1')
  for (const device of ['all', 'br0']) await setSysctl(node, `net/ipv4/conf/${device}/send_redirects`, '0')
}

const hardwareAddress = (host: number): string => `02:77:00:00:00:${host.toString(16).padStart(2, '0')}`

async function join(pod: Namespace, node: Namespace, host: number): Promise<void> {
  const port = `veth${host}`
  // A cluster without IPv6 has it disabled in its pods; then not even ::1 can be bound.
  if (!pod.ipv6) await setSysctl(pod, 'net/ipv6/conf/all/disable_ipv6', '1')
  await ip(node, [
    // Whoever gets the address later is found without a new resolution, as behind a routing CNI.
    `link add ${port} type veth peer name eth0 address ${hardwareAddress(host)} netns ${pod.name}`,
    `link set ${port} master br0 up`,
  ])
  await ip(pod, [
    'link set eth0 up',
    ...assign(pod, 'eth0'),
    ...(pod.ipv4 ? [`route add default via ${node.ipv4}`] : []),
    ...(pod.ipv6 ? [`route add default via ${node.ipv6}`] : []),
  ])
}

/** Runs several `ip` commands inside. */
export async function ip(namespace: Namespace, commands: readonly string[]): Promise<void> {
  await namespace.check('ip', ['-batch', '-'], { input: `${commands.join('\n')}\n` })
}

/** Sets one of the network's kernel parameters inside, by its path under /proc/sys. */
export async function setSysctl(namespace: Namespace, path: string, value: string): Promise<void> {
  await namespace.check('tee', [`/proc/sys/${path}`], { input: value })
}

/**
 * Moves this process's main thread inside, until disposed: what it then listens on, dials or spawns is in the
 * namespace. So a test can be the node, with an API server and an injector that the pods reach.
 */
export function enterNamespace(namespace: Namespace): Disposable {
  const { functions, lib } = dlopen(null, { setns: { arguments: ['int32', 'int32'], return: 'int32' } })
  const home = openSync('/proc/self/ns/net', 'r')
  const enter = (fd: number) => {
    if (functions.setns(fd, CLONE_NEWNET) !== 0) throw new Error(`cannot enter ${namespace.name}`)
  }
  const inside = openSync(`/run/netns/${namespace.name}`, 'r')
  enter(inside)
  closeSync(inside)
  return {
    [Symbol.dispose]() {
      enter(home)
      closeSync(home)
      lib.close()
    },
  }
}

// linux/sched.h
const CLONE_NEWNET = 0x40000000

/** Starts a Node module inside with a channel for messages (child_process.fork). */
export function forkInside(
  namespace: Namespace,
  module: string,
  { uid }: Uid,
  args: readonly string[] = [],
): ChildProcess {
  const [command = '', ...prefix] = enter(namespace.name, uid, process.execPath)
  return fork(module, args, {
    execPath: command,
    execArgv: [...prefix, '--disable-warning=ExperimentalWarning'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
}

type Addresses = { readonly ipv4?: string; readonly ipv6?: string }

async function createNamespace(
  name: string,
  addresses: Addresses,
  stack: AsyncDisposableStack,
): Promise<Namespace> {
  await exec('ip', ['netns', 'add', name])
  stack.defer(() => remove(name))
  const start = (command: string, args: readonly string[], { uid, ...options }: SpawnOptions & Uid = {}) => {
    const [first = '', ...rest] = enter(name, uid, command)
    return spawn(first, [...rest, ...args], options)
  }
  const run: Namespace['run'] = async (command, args, { uid, input = '' } = {}) => {
    const child = start(command, args, { ...(uid !== undefined && { uid }), stdio: 'pipe' })
    child.stdin?.on('error', () => {}).end(input)
    const [stdout, stderr, [status]] = await Promise.all([
      child.stdout ? text(child.stdout) : '',
      child.stderr ? text(child.stderr) : '',
      once(child, 'close'),
    ])
    return { status, stdout, stderr }
  }
  const check: Namespace['check'] = async (command, args, options) => {
    const { status, stdout, stderr } = await run(command, args, options)
    if (status === 0) return stdout
    throw new Error(`${command} ${args.join(' ')} in ${name} ended with ${status}: ${stderr.trim()}`)
  }
  const namespace = {
    name,
    ...addresses,
    addresses: [addresses.ipv4, addresses.ipv6].filter(address => address !== undefined),
    spawn: start,
    run,
    check,
  }
  // Link-local addresses are to be usable at once, without waiting for duplicate detection.
  await setSysctl(namespace, 'net/ipv6/conf/default/accept_dad', '0')
  await setSysctl(namespace, 'net/ipv6/conf/all/accept_dad', '0')
  await ip(namespace, ['link set lo up'])
  return namespace
}

/** The command line that runs a program inside; a uid keeps the right to read, since a checkout may be root's alone. */
function enter(name: string, uid: number | undefined, command: string): string[] {
  const path = findCommand(command) ?? command
  const inside = [findCommand('nsenter') ?? 'nsenter', `--net=/run/netns/${name}`]
  if (uid === undefined) return [...inside, path]
  const read = '+dac_read_search'
  const become = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', `--bounding-set=-all,${read}`]
  return [...inside, 'setpriv', ...become, `--inh-caps=-all,${read}`, `--ambient-caps=-all,${read}`, path]
}

function assign({ ipv4, ipv6 }: Addresses, device: string): string[] {
  return [
    ...(ipv4 ? [`addr add ${ipv4}/24 dev ${device}`] : []),
    ...(ipv6 ? [`addr add ${ipv6}/64 dev ${device}`] : []),
  ]
}

async function remove(name: string): Promise<void> {
  if (!namespacesNow().includes(name)) return
  const deadline = performance.now() + 5_000
  for (;;) {
    const { stdout } = await exec('ip', ['netns', 'pids', name])
    const pids = stdout.split(/\s+/).filter(Boolean).map(Number)
    if (pids.length === 0 || performance.now() > deadline) break
    for (const pid of pids) kill(pid)
    await delay(20)
  }
  await exec('ip', ['netns', 'delete', name])
}

/** Removes what a test process left that was killed. */
async function removeLeftovers(): Promise<void> {
  for (const name of namespacesNow()) {
    const [, pid] = new RegExp(`^${PREFIX}([0-9]+)-`).exec(name) ?? []
    if (pid !== undefined && !isAlive(Number(pid))) await remove(name).catch(() => {})
  }
}

function namespacesNow(): string[] {
  try {
    return readdirSync('/run/netns')
  } catch {
    return []
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

const execFilePromise = promisify(execFile)
const exec = (command: string, args: readonly string[]) =>
  execFilePromise(findCommand(command) ?? command, args)

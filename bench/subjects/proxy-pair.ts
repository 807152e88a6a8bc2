// What all peers have in common: a proxy in the client's namespace that the load dials on loopback, and one in the
// server's that accepts mutual TLS on the network. A port of each for every backend.
import { once } from 'node:events'
import { chown } from 'node:fs/promises'
import { join } from 'node:path'
import { ownGroup } from '../memory-group.ts'
import { APP_UID, type Backend, lastLines, listening, start } from '../stage.ts'
import type { Context, Running } from '../subject.ts'
import type { Side } from './peer-certificates.ts'

export type Ports = {
  /** On loopback in the client's namespace. */
  readonly client: Readonly<Record<Backend, number>>
  /** The TLS listeners in the server's namespace. */
  readonly server: Readonly<Record<Backend, number>>
}

type Command = { readonly command: string; readonly args: readonly string[] }

const CLIENT_BASE = 11_000
const SERVER_BASE = 12_000
const PORTS_EACH = 10

export type Pair = {
  /** Keeps the ports of peers that run at once apart. */
  readonly index: number
  readonly filesPerStream: Running['filesPerStream']
}

export async function startPair(
  { place, directory }: Context,
  { index, filesPerStream }: Pair,
  commandOf: (side: Side, ports: Ports) => Promise<Command>,
): Promise<Running> {
  const ports = { client: portsFrom(CLIENT_BASE, index), server: portsFrom(SERVER_BASE, index) }
  await chown(directory, APP_UID, APP_UID)
  await using stack = new AsyncDisposableStack()
  const begin = async (side: Side) => {
    const { command, args } = await commandOf(side, ports)
    const began = performance.now()
    const log = join(directory, `${side}.log`)
    const child = start(place[side], command, args, log, { uid: APP_UID })
    ownGroup(child.pid)
    const failed = new Promise<never>((_, reject) => {
      child.once('error', reject)
      child.once('exit', code => reject(new Error(`${command} ended with ${code}: ${lastLines(log)}`)))
    })
    stack.defer(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      const exited = once(child, 'exit')
      // nginx and its like end their workers only when asked.
      child.kill('SIGTERM')
      await exited
    })
    failed.catch(() => {})
    await Promise.race([listening(place[side], ports[side].web), failed])
    return { pid: child.pid ?? 0, readyMs: performance.now() - began }
  }
  const server = await begin('server')
  const client = await begin('client')
  const lifetime = stack.move()
  return {
    place,
    address: backend => ({ host: '127.0.0.1', port: ports.client[backend] }),
    proxies: [client.pid, server.pid],
    filesPerStream,
    readyMs: Math.max(client.readyMs, server.readyMs),
    [Symbol.asyncDispose]: () => lifetime.disposeAsync(),
  }
}

function portsFrom(base: number, index: number): Record<Backend, number> {
  const first = base + index * PORTS_EACH
  return { web: first, raw: first + 1, http2: first + 2 }
}

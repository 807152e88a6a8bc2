// Runs inside a network namespace, as the application or as the sidecar, and opens the connections that a test asks
// for. Its operations are called through netns-client.ts; arguments and results travel as JSON.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import {
  checkInboundDestination,
  checkOutboundDestination,
  isStartupProbe,
} from '../../proxy/accept/guards.ts'
import { type Captured, listenInbound, listenOutbound } from '../../proxy/accept/listeners.ts'
import { type Destination, kernelDestination } from '../../proxy/accept/original-destination.ts'
import { answerStartupProbe } from '../../proxy/admin/startup.ts'
import { applyRules } from '../../proxy/init/apply.ts'
import { type Proof, proofTargets, proveOutbound } from '../../proxy/init/proof.ts'
import { type RuleOptions, rules } from '../../proxy/init/rules.ts'
import { failure } from '../../shared/log.ts'
import { answerCalls } from './netns-rpc.ts'

/** Who took a connection, and what it knew of it. */
export type Answer = {
  readonly by: string
  readonly peer: string
  /** As the kernel gave it; only from a capture listener. */
  readonly destination?: Destination
  /** What the guards say of it. */
  readonly code?: string
}

const TIMEOUT_MS = 2_000

export const operations = {
  /** Listens as an application named `by`, which answers every connection with its name. */
  async serve({ by, host, port }: { by: string; host: string; port: number }): Promise<void> {
    const server = createServer(socket => {
      const answer: Answer = { by, peer: socket.remoteAddress ?? '' }
      socket.on('error', () => {}).end(JSON.stringify(answer))
    })
    await once(server.listen(port, host), 'listening')
  },

  /** Listens as the sidecar does, and answers every connection with what it saw. */
  async capture({ podIps, startupPath }: { podIps: readonly string[]; startupPath: string }): Promise<void> {
    const options = (by: string, check: (destination: Destination, podIps: readonly string[]) => void) => ({
      originalDestination: kernelDestination(),
      maxConnections: 100,
      onConnection: ({ stream, destination, peer }: Captured) => {
        if (by === 'inbound' && isStartupProbe(destination, podIps)) {
          answerStartupProbe(stream, startupPath, () => true)
          return
        }
        const code = refusal(() => check(destination, podIps))
        const answer: Answer = { by, peer: peer.address, destination, ...(code !== undefined && { code }) }
        stream.write(Buffer.from(JSON.stringify(answer)))
        stream.end()
      },
      onRefused: (error: Error) => console.error(error),
    })
    await listenOutbound(options('outbound', checkOutboundDestination))
    await listenInbound(options('inbound', checkInboundDestination))
  },

  /** What the init container does, in two steps. */
  async install(options: RuleOptions): Promise<'installed' | Failure> {
    return orFailure(async () => {
      await applyRules(rules(options))
      return 'installed' as const
    })
  },
  async prove(options: RuleOptions): Promise<Proof[] | Failure> {
    return orFailure(() => proveOutbound(proofTargets(options)))
  },

  /** Dials and returns who answered, or the error's code. */
  async dial({ host, port }: { host: string; port: number }): Promise<Answer | string> {
    const socket = connect({ host, port })
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('timeout')))
    return settle(async () => JSON.parse(await text(socket)))
  },

  /** GETs and returns the status, or the error's code. */
  async get({ host, port, path }: { host: string; port: number; path: string }): Promise<number | string> {
    const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
    const signal = AbortSignal.timeout(TIMEOUT_MS)
    return settle(async () => (await fetch(`http://${authority}${path}`, { signal })).status)
  },

  /** Answers each datagram with itself. */
  async echoUdp({ host, port }: { host: string; port: number }): Promise<void> {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    socket.on('message', (message, peer) => socket.send(message, peer.port, peer.address))
    socket.bind(port, host)
    await once(socket, 'listening')
  },

  /** Sends a datagram and returns the echo, or the error's code. */
  async sendUdp({ host, port }: { host: string; port: number }): Promise<string> {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    try {
      return await settle(async () => {
        const answered = once(socket, 'message', { signal: AbortSignal.timeout(500) })
        socket.send('hello', port, host, error => error && socket.emit('error', error))
        const [message] = await answered
        return String(message)
      })
    } finally {
      socket.close()
    }
  },
}

export type Operations = typeof operations

async function settle<T>(work: () => Promise<T>): Promise<T | string> {
  try {
    return await work()
  } catch (thrown) {
    return reasonOf(thrown)
  }
}

type Failure = ReturnType<typeof failure>

async function orFailure<T>(work: () => Promise<T>): Promise<T | Failure> {
  try {
    return await work()
  } catch (thrown) {
    return failure(thrown, 'PSTN_CONFIG_INVALID')
  }
}

/** The innermost error code: fetch and timers wrap what the socket said. */
function reasonOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown)
  if (thrown.cause instanceof Error) return reasonOf(thrown.cause)
  if (thrown.name === 'TimeoutError') return 'timeout'
  return 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : thrown.message
}

function refusal(check: () => void): string | undefined {
  try {
    check()
    return undefined
  } catch (thrown) {
    return failure(thrown, 'PSTN_INTERCEPTION').code
  }
}

answerCalls(operations)

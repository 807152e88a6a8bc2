// The capture listeners: where nftables sends what the application dials (15001) and what dials the application
// (15006). Each accepted socket is handed on paused, with its original destination and its peer's canonical address.
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { canonicalAddress } from '../../shared/addresses.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { LISTEN_BACKLOG, PORTS } from '../../shared/ports.ts'
import type { Destination, OriginalDestination } from './original-destination.ts'

/** A captured connection. The socket is paused and half-open: each direction ends on its own. */
export type Captured = {
  readonly socket: Socket
  readonly destination: Destination
  readonly peer: Destination
}

export type CaptureOptions = {
  readonly originalDestination: OriginalDestination
  /** Beyond it new connections are reset at once (PSTN_LIMIT). */
  readonly maxConnections: number
  onConnection(connection: Captured): void
  /** A connection that was closed because it cannot be handled, or there are too many. */
  onRefused(error: PosternError, peer: Destination | undefined): void
}

export type CaptureListener = AsyncDisposable & {
  /** What is bound, for the log. */
  readonly bound: readonly Destination[]
  /** Accepts nothing more; resolves when the last connection has closed. */
  drain(): Promise<void>
}

/** Binds 15001 on loopback alone, which an output redirect reaches and no other host can. */
export async function listenOutbound(options: CaptureOptions): Promise<CaptureListener> {
  const ipv4 = await bind('127.0.0.1', PORTS.outbound, options)
  const ipv6 = await bindIfAvailable('::1', PORTS.outbound, options)
  return ipv6 ? joined([ipv4, ipv6]) : ipv4
}

/** Binds 15006 on all addresses: dual-stack, or IPv4 where the machine has no IPv6. */
export async function listenInbound(options: CaptureOptions): Promise<CaptureListener> {
  const dualStack = await bindIfAvailable('::', PORTS.inbound, options)
  return dualStack ?? bind('0.0.0.0', PORTS.inbound, options)
}

/** Binds one address; for fixed tables of listeners. Port 0 takes a free one, see `bound`. */
export async function bind(host: string, port: number, options: CaptureOptions): Promise<CaptureListener> {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true })
  server.on('connection', socket => {
    // Not the server's own maxConnections, which ends them in order: an application would take that for an answer.
    if (sockets.size >= options.maxConnections) {
      const why = `more than ${options.maxConnections} connections`
      refuse(socket, new PosternError('PSTN_LIMIT', why), options)
      return
    }
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    accept(socket, options)
  })
  server.listen({ host, port, backlog: LISTEN_BACKLOG })
  await once(server, 'listening')

  let closed: Promise<unknown> | undefined
  const drain = async () => {
    closed ??= once(server.close(), 'close')
    await closed
  }
  return {
    bound: [boundTo(server)],
    drain,
    async [Symbol.asyncDispose]() {
      const drained = drain()
      for (const socket of sockets) socket.destroy()
      await drained
    },
  }
}

function accept(socket: Socket, options: CaptureOptions): void {
  const { originalDestination, onConnection } = options
  const peer = peerOf(socket)
  try {
    if (!peer) throw new PosternError('PSTN_INTERCEPTION', 'the peer left before it was accepted')
    const destination = originalDestination(socket)
    onConnection({ socket, destination, peer })
  } catch (thrown) {
    refuse(socket, asPosternError(thrown, 'PSTN_INTERCEPTION'), options, peer)
  }
}

function refuse(
  socket: Socket,
  error: PosternError,
  { onRefused }: CaptureOptions,
  peer = peerOf(socket),
): void {
  socket.once('error', () => {}).resetAndDestroy()
  onRefused(error, peer)
}

const MISSING_FAMILY = ['EADDRNOTAVAIL', 'EAFNOSUPPORT']

async function bindIfAvailable(host: string, port: number, options: CaptureOptions) {
  try {
    return await bind(host, port, options)
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && MISSING_FAMILY.includes(String(thrown.code)))
      return undefined
    throw thrown
  }
}

function joined(listeners: readonly CaptureListener[]): CaptureListener {
  const every = async (act: (listener: CaptureListener) => PromiseLike<void>) => {
    await Promise.all(listeners.map(act))
  }
  return {
    bound: listeners.flatMap(listener => listener.bound),
    drain: () => every(listener => listener.drain()),
    [Symbol.asyncDispose]: () => every(listener => listener[Symbol.asyncDispose]()),
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): Destination | undefined {
  const address = canonicalAddress(remoteAddress ?? '')
  return address === undefined || remotePort === undefined ? undefined : { address, port: remotePort }
}

function boundTo(server: Server): Destination {
  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new Error('a TCP server has an address')
  return { address: bound.address, port: bound.port }
}

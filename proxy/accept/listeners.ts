// The capture listeners: where nftables sends what the application dials (15001) and what dials the application
// (15006). Each accepted connection is handed on unread, with its original destination and its peer's canonical address.
import type { Server } from 'node:net'
import { ChurnSet } from '../../shared/churn.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { PORTS } from '../../shared/ports.ts'
import { createShares } from '../../shared/shares.ts'
import { listenTcp } from '../tcp/accept.ts'
import type { TcpStream } from '../tcp/tcp-stream.ts'
import type { Destination, OriginalDestination } from './original-destination.ts'

/** A captured connection, of which nothing has been read. */
export type Captured = {
  readonly stream: TcpStream
  readonly destination: Destination
  readonly peer: Destination
}

export type CaptureOptions = {
  readonly originalDestination: OriginalDestination
  /** Beyond it new connections are reset at once (PSTN_LIMIT). */
  readonly maxConnections: number
  /** Of them, for one peer's address; absent where all peers are this pod. */
  readonly maxPerAddress?: number
  onConnection(connection: Captured): void
  /** A connection that was closed because it cannot be handled, or there are too many. */
  onRefused(error: PosternError, peer: Destination | undefined): void
}

export type CaptureHandlers = Pick<CaptureOptions, 'onConnection' | 'onRefused'>

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
  const { maxConnections, maxPerAddress = maxConnections } = options
  const shares = createShares(maxPerAddress)
  const live = new ChurnSet<TcpStream>()
  const drained = Promise.withResolvers<void>()
  let isClosed = false
  const accepted = (stream: TcpStream) => {
    const { peer } = stream
    const isFull = live.size >= maxConnections
    const release = isFull ? undefined : shares.take(peer?.address)
    if (!release) {
      const most = isFull ? maxConnections : `${maxPerAddress} of this address`
      refuse(stream, peer, new PosternError('PSTN_LIMIT', `more connections than ${most}`), options)
      return
    }
    live.add(stream)
    stream.whenGone(() => {
      release()
      live.delete(stream)
      if (isClosed && live.size === 0) drained.resolve()
    })
    accept(stream, peer, options)
  }
  const server = await listenTcp({ host, port }, accepted, error =>
    options.onRefused(new PosternError('PSTN_LIMIT', error.message, { cause: error }), undefined),
  )
  const drain = async () => {
    if (!isClosed) server.close()
    isClosed = true
    if (live.size === 0) drained.resolve()
    await drained.promise
  }
  return {
    bound: [boundTo(server)],
    drain,
    async [Symbol.asyncDispose]() {
      const over = drain()
      for (const stream of live) stream.close()
      await over
    },
  }
}

function accept(stream: TcpStream, peer: Destination | undefined, options: CaptureOptions): void {
  const { originalDestination, onConnection } = options
  try {
    if (!peer) throw new PosternError('PSTN_INTERCEPTION', 'the peer left before it was accepted')
    const destination = originalDestination(stream, peer)
    onConnection({ stream, destination, peer })
  } catch (thrown) {
    refuse(stream, peer, asPosternError(thrown, 'PSTN_INTERCEPTION'), options)
  }
}

function refuse(
  stream: TcpStream,
  peer: Destination | undefined,
  error: PosternError,
  { onRefused }: CaptureOptions,
): void {
  stream.reset()
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

function boundTo(server: Server): Destination {
  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new Error('a TCP server has an address')
  return { address: bound.address, port: bound.port }
}

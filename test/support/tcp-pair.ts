// TCP connections on loopback as the proxy holds them, and the far ends that a test writes to and reads from.
import { once } from 'node:events'
import { connect, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'
import { listenTcp } from '../../proxy/tcp/accept.ts'
import { connectTcp } from '../../proxy/tcp/connect.ts'
import type { TcpStream } from '../../proxy/tcp/tcp-stream.ts'
import type { Sink } from '../../proxy/tunnel/byte-stream.ts'

export function portOf(server: Server): number {
  const bound = server.address()
  if (typeof bound !== 'object' || bound === null) throw new Error('a TCP server has an address')
  return bound.port
}

/** Of a loopback port; rejects where the dial fails. */
export function dialTcp(port: number): Promise<TcpStream> {
  const { promise, resolve, reject } = Promise.withResolvers<TcpStream>()
  connectTcp('127.0.0.1', port, outcome => (outcome instanceof Error ? reject(outcome) : resolve(outcome)))
  return promise
}

/** An accepted connection, unread; `far` is half-open, too. */
export async function tcpPair(t: Test): Promise<{ stream: TcpStream; far: Socket }> {
  const { promise, resolve, reject } = Promise.withResolvers<TcpStream>()
  const server = await listenTcp({ host: '127.0.0.1', port: 0 }, resolve, reject)
  const far = connect({ host: '127.0.0.1', port: portOf(server), allowHalfOpen: true }).on('error', () => {})
  const [stream] = await Promise.all([promise, once(far, 'connect')])
  server.close()
  t.teardown(() => {
    far.destroy()
    stream.close()
  })
  return { stream, far }
}

/** Hears nothing but what `parts` hears. */
export const sink = (parts: Partial<Sink>): Sink => ({
  data: () => {},
  end: () => {},
  drain: () => {},
  closed: () => {},
  ...parts,
})

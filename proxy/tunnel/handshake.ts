// A TLS connection to a peer's tunnel, not identified yet.
import type { TcpNetConnectOpts } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { authorityOf } from '../../shared/addresses.ts'
import { PosternError } from '../../shared/errors.ts'
import { LentReads } from '../tcp/lent-reads.ts'
import { isOwnShortage } from '../tcp/shortage.ts'
import type { Shown } from './expected.ts'

export type Dialled = { readonly socket: TLSSocket; readonly reads: LentReads }

/**
 * @throws PosternError PSTN_PEER_UNREACHABLE before there is a TCP connection, then PSTN_TLS_FAILED; PSTN_LIMIT where this
 * process has no descriptor or memory left for it.
 */
export function handshake(
  address: string,
  port: number,
  { context, servername }: Shown,
  timeoutMs: number,
): Promise<Dialled> {
  const { promise, resolve, reject } = Promise.withResolvers<Dialled>()
  const reads = new LentReads()
  const options: ConnectionOptions & Pick<TcpNetConnectOpts, 'onread'> = {
    ...context,
    onread: reads.onread,
    host: address,
    port,
    ...(servername !== undefined && { servername }),
    ALPNProtocols: ['h2'],
    // The peer is checked by `identify`, which can say what is wrong; there is no other way past it.
    rejectUnauthorized: false,
    // SVIDs name workloads, not hosts.
    checkServerIdentity: () => undefined,
  }
  const socket = connect(options)
  socket.setNoDelay(true)
  let connected = false
  const fail = (why: string, cause?: Error) => {
    const reached = connected ? 'PSTN_TLS_FAILED' : 'PSTN_PEER_UNREACHABLE'
    const code = isOwnShortage(cause) ? 'PSTN_LIMIT' : reached
    reject(new PosternError(code, `${authorityOf(address, port)}: ${why}`, { cause }))
    clearTimeout(timer)
    socket.destroy()
  }
  const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs)
  socket.on('error', error => fail(error.message, error))
  socket.once('close', () => fail('closed during the handshake'))
  socket.once('connect', () => {
    connected = true
  })
  socket.once('secureConnect', () => {
    clearTimeout(timer)
    if (socket.alpnProtocol === 'h2') resolve({ socket, reads })
    else fail('the peer does not speak h2')
  })
  return promise
}

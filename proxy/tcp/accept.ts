// Connections that are accepted, on Node's own handles: listening, binding and closing are net.Server's.
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { LISTEN_BACKLOG } from '../../shared/ports.ts'
import { errorOf, handleOf, hidden, native, type TcpHandle } from './native.ts'
import { TcpStream } from './tcp-stream.ts'

/**
 * Listens at an IP literal; port 0 takes a free one. The server never sees a connection: `onStream` is given each.
 * @throws PosternError PSTN_CONFIG_INVALID where Node's handles are not as we know them: the sidecar does not start
 */
export async function listenTcp(
  { host, port }: { readonly host: string; readonly port: number },
  onStream: (stream: TcpStream) => void,
  onFailed: (error: Error) => void,
): Promise<Server> {
  native()
  const server = createServer()
  server.listen({ host, port, backlog: LISTEN_BACKLOG })
  await once(server, 'listening')
  // Still in the turn in which it began to listen: before the first connection can come.
  const handle = handleOf(server)
  if (!handle || !('onconnection' in handle)) {
    server.close()
    throw hidden()
  }
  handle.onconnection = (status: number, accepted?: TcpHandle<TcpStream>) => {
    if (status !== 0 || !accepted) {
      // Not EMFILE, with which libuv closes the connection and says nothing.
      onFailed(errorOf('accept', status))
      return
    }
    accepted.setNoDelay(true)
    onStream(new TcpStream(accepted))
  }
  return server
}

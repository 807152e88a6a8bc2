// Connections that are accepted, on Node's own handles: listening, binding and closing are net.Server's.
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { LISTEN_BACKLOG } from '../../shared/ports.ts'
import { errorOf, handleOf, type TcpHandle } from './native.ts'
import { TcpStream } from './tcp-stream.ts'

/** Listens at an IP literal; port 0 takes a free one. The server never sees a connection: `onStream` is given each. */
export async function listenTcp(
  { host, port }: { readonly host: string; readonly port: number },
  onStream: (stream: TcpStream) => void,
  onFailed: (error: Error) => void,
): Promise<Server> {
  const server = createServer()
  // In the turn in which it begins to listen: before the first connection can come.
  server.once('listening', () => {
    const handle = handleOf(server)
    if (!handle || !('onconnection' in handle))
      throw new Error('this Node accepts connections in another way')
    handle.onconnection = (status: number, accepted?: TcpHandle<TcpStream>) => {
      if (status !== 0 || !accepted) {
        // EMFILE and its like: the connection is gone, and its peer will see so.
        onFailed(errorOf('accept', status))
        return
      }
      accepted.setNoDelay(true)
      onStream(new TcpStream(accepted))
    }
  })
  server.listen({ host, port, backlog: LISTEN_BACKLOG })
  await once(server, 'listening')
  return server
}

// A port whose connections are led to another one, which a test changes: an endpoint that goes away, or in whose place somebody
// else answers, under the same URL.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

export type SwitchedPort = AsyncDisposable & {
  readonly port: number
  /** On loopback. Undefined: whoever dials is cut off. */
  target: number | undefined
}

export async function switchedPort(target: number): Promise<SwitchedPort> {
  const sockets = new Set<Socket>()
  const kept = (socket: Socket) => {
    sockets.add(socket.on('error', () => undefined).on('close', () => sockets.delete(socket)))
    return socket
  }
  const server = createServer(client => {
    if (switched.target === undefined) client.destroy()
    else
      kept(client)
        .pipe(kept(connect({ host: '127.0.0.1', port: switched.target })))
        .pipe(client)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const switched: SwitchedPort = {
    port: (server.address() as AddressInfo).port,
    target,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server.close(), 'close')
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
  return switched
}

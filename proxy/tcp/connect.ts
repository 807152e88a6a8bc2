// Connections that are dialled, on Node's own handle.
import { errorOf, native, type Request, type TcpHandle } from './native.ts'
import { TcpStream } from './tcp-stream.ts'

type Dialled = {
  readonly handle: TcpHandle<TcpStream>
  isOver: boolean
  readonly onOutcome: (outcome: TcpStream | Error) => void
}

/**
 * `onOutcome` is called once, later, unless the returned function gives the attempt up before. `address` is an IP literal.
 * `port` is one: another number aborts the process. No delay (TCP_NODELAY): who writes has gathered.
 */
export function connectTcp(
  address: string,
  port: number,
  onOutcome: (outcome: TcpStream | Error) => void,
): () => void {
  const { TCP, TCPConnectWrap, constants } = native()
  const handle = new TCP<TcpStream>(constants.SOCKET)
  const dialled: Dialled = { handle, isOver: false, onOutcome }
  const request = new TCPConnectWrap<Dialled>()
  request.owner = dialled
  request.oncomplete = onConnected
  // Before there is a socket: libuv sets it as it makes one.
  handle.setNoDelay(true)
  const error = address.includes(':')
    ? handle.connect6(request, address, port)
    : handle.connect(request, address, port)
  if (error !== 0) process.nextTick(() => settle(dialled, error))
  return () => {
    if (dialled.isOver) return
    dialled.isOver = true
    handle.close()
  }
}

function onConnected(this: Request<Dialled>, status: number): void {
  if (this.owner) settle(this.owner, status)
}

function settle(dialled: Dialled, status: number): void {
  if (dialled.isOver) return
  dialled.isOver = true
  if (status === 0) dialled.onOutcome(new TcpStream(dialled.handle))
  else {
    dialled.handle.close()
    dialled.onOutcome(errorOf('connect', status))
  }
}

// Node's own handles of sockets, which net.Socket and tls.TLSSocket are built on: a layer less for what every byte and
// every connection passes (docs/adr/0006). This file alone knows where they are; that may change with a Node release,
// which the start of the sidecar and a test notice. What holds of them:
// - after `close` or `reset` every call is harmless, and what was in flight completes with ECANCELED before they are done;
// - a callback is called by the event loop, never during the call that asked for it;
// - an argument of another type aborts the process.
import { getSystemErrorName } from 'node:util'
import { PosternError } from '../../shared/errors.ts'

/** A call answers 0 or a negative error number. */
export type StreamHandle = {
  writeBuffer<O>(request: Request<O>, chunk: Buffer): number
  useUserBuffer(buffer: Buffer): void
}

export type TcpHandle<Owner> = StreamHandle & {
  /** Ours: whom `onread` and the callbacks are for. */
  owner?: Owner
  onread?: (this: TcpHandle<Owner>) => void
  /** Negative where there is none any more. */
  readonly fd: number
  connect<O>(request: Request<O>, address: string, port: number): number
  connect6<O>(request: Request<O>, address: string, port: number): number
  readStart(): number
  readStop(): number
  shutdown<O>(request: Request<O>): number
  close(done?: (this: TcpHandle<Owner>) => void): void
  /** Sends RST. Never while a shutdown is under way: it answers EINVAL, and the handle can not be closed any more. */
  reset(done?: (this: TcpHandle<Owner>) => void): number
  setNoDelay(on: boolean): number
  setKeepAlive(on: boolean, delaySeconds: number): number
  getpeername(out: Partial<SocketName>): number
  getsockname(out: Partial<SocketName>): number
}

export type SocketName = { address: string; family: string; port: number }

export type Request<Owner> = {
  /** Ours, as a handle's. */
  owner?: Owner
  /** Ours: the memory that the kernel may still read. */
  chunk?: Buffer
  oncomplete?: (this: Request<Owner>, status: number) => void
}

type Native = {
  readonly TCP: new <Owner>(kind: number) => TcpHandle<Owner>
  readonly TCPConnectWrap: new <Owner>() => Request<Owner>
  readonly ShutdownWrap: new <Owner>() => Request<Owner>
  readonly WriteWrap: new <Owner>() => Request<Owner>
  readonly constants: { readonly SOCKET: number }
  readonly streamBaseState: Int32Array
  readonly kReadBytesOrError: number
  readonly kLastWriteWasAsync: number
}

const KINDS: Readonly<Record<keyof Native, string>> = {
  TCP: 'function',
  TCPConnectWrap: 'function',
  ShutdownWrap: 'function',
  WriteWrap: 'function',
  constants: 'object',
  streamBaseState: 'object',
  kReadBytesOrError: 'number',
  kLastWriteWasAsync: 'number',
}

function findNative(): Native | undefined {
  const binding: unknown = Reflect.get(process, 'binding')
  if (typeof binding !== 'function') return undefined
  try {
    const found: object = { ...binding.call(process, 'stream_wrap'), ...binding.call(process, 'tcp_wrap') }
    return isNative(found) ? found : undefined
  } catch {
    return undefined
  }
}

const isNative = (found: object): found is Native =>
  Object.entries(KINDS).every(([name, kind]) => typeof Reflect.get(found, name) === kind)

const found = findNative()

/** @throws PosternError PSTN_CONFIG_INVALID where this Node has none of them. */
export function native(): Native {
  if (found) return found
  throw hidden()
}

export const hidden = (): PosternError =>
  new PosternError(
    'PSTN_CONFIG_INVALID',
    `Node ${process.version} hides its sockets: take the one of package.json`,
  )

/** What a socket of net or tls is built on. */
export function handleOf(socket: object): object | undefined {
  const handle: unknown = Reflect.get(socket, '_handle')
  return typeof handle === 'object' && handle !== null ? handle : undefined
}

/**
 * OpenSSL's name for the flaw of the peer's chain, undefined if there is none: what a tls.Server says of its own connections.
 * Of a handshake that is done. @throws PosternError PSTN_CONFIG_INVALID
 */
export function chainFlaw(socket: object): string | undefined {
  const handle = handleOf(socket)
  if (!handle || !('verifyError' in handle) || typeof handle.verifyError !== 'function') throw hidden()
  const error: unknown = handle.verifyError()
  if (error === null || error === undefined) return undefined
  return error instanceof Error && 'code' in error ? String(error.code) : String(error)
}

/** With the error's name as its `code`, as Node's own have it. */
export function errorOf(call: string, status: number): Error & { readonly code: string } {
  const code = getSystemErrorName(status)
  return Object.assign(new Error(`${call}: ${code}`), { code })
}

// The way to a replica of the injector: mutual TLS to its control port, and nothing but exactly its identity is taken at
// the other end. Sidecars open their control stream so, and replicas ask each other.
import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import { asPosternError, PosternError } from '../errors.ts'
import type { SpiffeId } from '../spiffe-id.ts'
import { clientTlsOptions, HANDSHAKE_TIMEOUT_MS, type KeyedChain } from '../tls/contexts.ts'
import { type VerifiedPeer, verifyPeer } from '../tls/peer-verifier.ts'
import type { TrustBundle } from '../trust-bundle.ts'

export type InjectorTarget = {
  /** `host:port` */
  readonly address: string
  /** Where this machine has several: the address that the injector knows the pod by. */
  readonly localAddress?: string
  readonly identity: SpiffeId
  readonly credential: KeyedChain
  readonly bundle: TrustBundle
  readonly now: number
}

export type DialledInjector = { readonly socket: TLSSocket; readonly injector: VerifiedPeer }

/** @throws PosternError PSTN_CONTROL_LOST, PSTN_TLS_FAILED or one of verifyPeer's codes. */
export async function dialInjector(target: InjectorTarget, signal: AbortSignal): Promise<DialledInjector> {
  const { bundle, identity, now } = target
  const socket = await dial(target, signal)
  try {
    return { socket, injector: verifyPeer(socket, { bundle, expected: identity, now }) }
  } catch (thrown) {
    socket.destroy()
    throw thrown
  }
}

async function dial(
  { address, localAddress, credential, bundle }: InjectorTarget,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const { hostname, port } = new URL(`https://${address}`)
  const host = hostname.replace(/^\[|\]$/g, '')
  const from = localAddress === undefined ? {} : { localAddress }
  const socket = connect({ ...clientTlsOptions(credential, bundle), host, port: Number(port), ...from })
  socket.setNoDelay(true)
  let connected = false
  socket.once('connect', () => {
    connected = true
  })
  try {
    const within = AbortSignal.any([signal, AbortSignal.timeout(HANDSHAKE_TIMEOUT_MS)])
    await once(socket, 'secureConnect', { signal: within })
    return socket
  } catch (thrown) {
    socket.on('error', () => undefined)
    socket.destroy()
    signal.throwIfAborted()
    const { message } = asPosternError(thrown, 'PSTN_CONTROL_LOST')
    const code = connected ? 'PSTN_TLS_FAILED' : 'PSTN_CONTROL_LOST'
    throw new PosternError(code, `${address}: ${message}`, { cause: thrown })
  }
}

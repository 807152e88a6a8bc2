// One TLS handshake on loopback, and what each side's verifier says of the other.
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { type ConnectionOptions, connect, createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import { PosternError } from '../../shared/errors.ts'
import { parseSpiffeId } from '../../shared/spiffe-id.ts'
import { type VerifiedPeer, verifyPeer } from '../../shared/tls/peer-verifier.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'

/** The peer, or the code of its refusal. */
export type Verdict = VerifiedPeer | string

export type Meeting = {
  readonly server: TlsOptions
  readonly client: ConnectionOptions
  /** What both verify with. */
  readonly bundle: TrustBundle
  /** Whom the client expects. */
  readonly expected?: string
}

/** Undefined for a side whose handshake failed. */
export async function meet({ server, client, bundle, expected }: Meeting): Promise<{
  byServer: Verdict | undefined
  byClient: Verdict | undefined
}> {
  const verdict = (socket: TLSSocket, wanted?: string): Verdict => {
    const context = { bundle, now: Date.now(), ...(wanted && { expected: parseSpiffeId(wanted).id }) }
    try {
      return verifyPeer(socket, context)
    } catch (thrown) {
      return thrown instanceof PosternError ? thrown.code : String(thrown)
    }
  }
  const listener = createServer(server)
  let byServer: Verdict | undefined
  listener.on('secureConnection', socket => {
    byServer = verdict(socket)
    socket.on('error', () => {})
    socket.end('x')
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const socket = connect({ ...client, host: '127.0.0.1', port: (listener.address() as AddressInfo).port })
  let byClient: Verdict | undefined
  try {
    await once(socket, 'secureConnect')
    byClient = verdict(socket, expected)
    socket.resume()
    await once(socket, 'close')
  } catch {
    // The other side refused the handshake; byServer tells.
  }
  socket.destroy()
  listener.close()
  await once(listener, 'close')
  return { byServer, byClient }
}

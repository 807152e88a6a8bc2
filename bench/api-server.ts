// The embedded API server for sidecars in other network namespaces: they speak nothing but TLS to an address that is not
// loopback, so a TLS listener stands before it.
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream'
import { createServer } from 'node:tls'
import { createAuthority } from '../test/support/authority.ts'

export type TlsFront = AsyncDisposable & {
  /** `https://<host>:<port>` */
  readonly url: string
  /** PEM: what signed the listener's certificate. */
  readonly ca: string
}

export async function startTlsFront(upstream: string, host: string): Promise<TlsFront> {
  const authority = await createAuthority('bench API server')
  const { cert, key } = await authority.issue({ commonName: 'kube-apiserver', ips: [host] })
  const { hostname, port } = new URL(upstream)
  const server = createServer({ cert, key }, client => {
    const backend = connect(Number(port), hostname)
    // A peer that goes away takes its other half along; there is nobody to tell.
    pipeline(client, backend, client, () => {})
  })
  await new Promise<void>(resolve => server.listen(0, host, resolve))
  const bound = server.address()
  const listening = typeof bound === 'object' && bound ? bound.port : 0
  return {
    url: `https://${host}:${listening}`,
    ca: authority.cert,
    [Symbol.asyncDispose]: async () => void server.close(),
  }
}

/** The files that the kubelet would mount beside a token. */
export async function writeTokenVolume(directory: string, token: string, { ca }: TlsFront): Promise<void> {
  await writeFile(join(directory, 'token'), token)
  await writeFile(join(directory, 'ca.crt'), ca)
}

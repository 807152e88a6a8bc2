// Certificates for the peers like those that Postern's own CA gives: P-256, the identity as URI SAN, from one root.
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { testAuthority } from '../../test/support/certificates.ts'
import { KUBE_NAMESPACE } from '../mesh.ts'

export type Side = 'client' | 'server'

/** Paths of PEM files. */
export type Certificates = {
  readonly root: string
  readonly identity: Readonly<Record<Side, string>>
  readonly chain: Readonly<Record<Side, string>>
  readonly key: Readonly<Record<Side, string>>
  /** Chain and key in one, as HAProxy wants them. */
  readonly both: Readonly<Record<Side, string>>
}

/** The DNS name beside the identity, for peers that check nothing else. */
export const serverName = (side: Side): string => `${side}.${KUBE_NAMESPACE}.svc`

const perSide = (path: (side: Side) => string) => ({ client: path('client'), server: path('server') })

export async function issueCertificates(directory: string): Promise<Certificates> {
  const authority = await testAuthority('cluster.local')
  const file = (name: string) => join(directory, `${name}.pem`)
  const certificates: Certificates = {
    root: file('root'),
    identity: perSide(side => `spiffe://cluster.local/ns/${KUBE_NAMESPACE}/sa/${side}`),
    chain: perSide(side => file(`${side}-chain`)),
    key: perSide(side => file(`${side}-key`)),
    both: perSide(side => file(side)),
  }
  await writeFile(certificates.root, authority.root)
  for (const side of ['client', 'server'] as const) {
    const identity = certificates.identity[side]
    const notAfter = new Date(Date.now() + 24 * 3600_000)
    const { chain, key } = await authority.issue({
      identity,
      notAfter,
      dns: [serverName(side)],
    })
    await writeFile(certificates.chain[side], chain)
    await writeFile(certificates.key[side], key)
    await writeFile(certificates.both[side], chain + key)
    await chmod(certificates.key[side], 0o644)
  }
  return certificates
}

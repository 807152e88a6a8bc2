// The authority of a test API server, its clients and servers by host name (workload certificates: certificates.ts).
import 'reflect-metadata'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import * as x509 from '@peculiar/x509'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const DAY_MS = 24 * 3600 * 1000

export type CertificateAndKey = { readonly cert: string; readonly key: string }

export type LeafOptions = {
  readonly commonName: string
  /** Groups, for a client of the API server. */
  readonly organizations?: readonly string[]
  readonly dns?: readonly string[]
  readonly ips?: readonly string[]
}

export type Authority = CertificateAndKey & {
  /** A leaf for both server and client authentication. */
  issue(leaf: LeafOptions): Promise<CertificateAndKey>
}

export async function createAuthority(commonName: string): Promise<Authority> {
  const keys = await generateKeys()
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: `CN=${commonName}`,
    ...validity(),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  })
  return {
    cert: pem(root),
    key: await exportKey(keys.privateKey),
    issue: async leaf => {
      const leafKeys = await generateKeys()
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: serial(),
        subject: new x509.Name([
          ...(leaf.organizations ?? []).map(name => ({ O: [name] })),
          { CN: [leaf.commonName] },
        ]),
        issuer: root.subjectName,
        ...validity(),
        publicKey: leafKeys.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([
            x509.ExtendedKeyUsage.serverAuth,
            x509.ExtendedKeyUsage.clientAuth,
          ]),
          new x509.SubjectAlternativeNameExtension([
            ...(leaf.dns ?? []).map(value => ({ type: 'dns' as const, value })),
            ...(leaf.ips ?? []).map(value => ({ type: 'ip' as const, value })),
          ]),
        ],
      })
      return { cert: pem(certificate), key: await exportKey(leafKeys.privateKey) }
    },
  }
}

/** Keys with which an API server signs and checks service account tokens. */
export function serviceAccountKeys(): { readonly publicKey: string; readonly privateKey: string } {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
}

const generateKeys = () => crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])

const serial = () => `01${randomBytes(15).toString('hex')}`

const validity = () => ({
  notBefore: new Date(Date.now() - 3600_000),
  notAfter: new Date(Date.now() + 30 * DAY_MS),
})

const pem = (certificate: x509.X509Certificate) => `${certificate.toString('pem')}\n`

const exportKey = async (key: CryptoKey) =>
  `${x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`

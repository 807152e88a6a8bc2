// Certificate authorities for tests, of any trust domain and as wrong as a case needs, made with another X.509 library
// than the one under test.
import 'reflect-metadata'
import { createHash, createPrivateKey, createPublicKey, randomBytes, webcrypto } from 'node:crypto'
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'
import type { Credential } from '../../proxy/credentials/credential.ts'
import { parseSpiffeId } from '../../shared/spiffe-id.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'

export { ExtendedKeyUsage, KeyUsageFlags } from '@peculiar/x509'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

type Keys = webcrypto.CryptoKeyPair

export type IssueOptions = {
  /** The URI SAN; `uris` instead for none or several. */
  readonly identity?: string
  readonly uris?: readonly string[]
  readonly dns?: readonly string[]
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly isCa?: boolean
  readonly keyUsage?: KeyUsageFlags
  /** `[]`: no such extension. */
  readonly extKeyUsage?: readonly ExtendedKeyUsage[]
  /** SubjectPublicKeyInfo (DER) of somebody else's key, as a signer has it; the key is then not in the answer. */
  readonly publicKey?: Buffer
  readonly extensions?: readonly Extension[]
  /** In place of all of the above: exactly these. */
  readonly onlyExtensions?: readonly Extension[]
  /** Empty if absent. */
  readonly subject?: string
}

/** `extensions`: in place of those of a CA without constraints. */
export type IntermediateOptions = Pick<IssueOptions, 'notBefore' | 'notAfter' | 'extensions'>

export type Issued = {
  /** PEM, PKCS#8; empty if `publicKey` was given. */
  readonly key: string
  /** PEM: the leaf, then the intermediates. */
  readonly chain: string
  readonly leaf: string
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** As the credential of a sidecar with `identity`. */
  credential(generation?: number): Credential
}

export type TestAuthority = {
  readonly trustDomain: string
  readonly root: string
  readonly rootFingerprint: string
  readonly bundle: TrustBundle
  issue(options: IssueOptions): Promise<Issued>
  /** An authority below this one, whose leaves carry its certificate in their chain. */
  intermediate(options?: IntermediateOptions): Promise<TestAuthority>
  /** A certificate (PEM) by this authority for the name and the key of `other`. */
  crossSign(other: TestAuthority): Promise<string>
  readonly publicKey: webcrypto.CryptoKey
}

type Signer = { readonly certificate: X509Certificate; readonly keys: Keys; readonly chain: string }

/** Two calls with one subject give two authorities, with different keys unless they are given: which is what a forger would make. */
export async function testAuthority(
  trustDomain: string,
  subject = `CN=${trustDomain} root`,
  given?: Keys,
  notAfter = new Date(Date.now() + 365 * DAY_MS),
): Promise<TestAuthority> {
  const keys = given ?? (await generateKeys())
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: subject,
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: caExtensions(),
  })
  return authority(trustDomain, certificate, { certificate, keys, chain: '' })
}

function authority(trustDomain: string, root: X509Certificate, signer: Signer): TestAuthority {
  const rootPem = pem(root)
  return {
    trustDomain,
    root: rootPem,
    rootFingerprint: createHash('sha256').update(Buffer.from(root.rawData)).digest('hex'),
    bundle: { trustDomain, roots: [rootPem] },
    publicKey: signer.keys.publicKey,
    issue: options => issue(signer, options),
    crossSign: async ({ publicKey }) => {
      const name = `CN=${trustDomain} issuer`
      const notBefore = new Date(Date.now() - HOUR_MS)
      const notAfter = new Date(Date.now() + 30 * DAY_MS)
      return pem(await sign(signer, { name, notBefore, notAfter, publicKey, extensions: caExtensions() }))
    },
    intermediate: async ({
      notBefore = new Date(Date.now() - HOUR_MS),
      notAfter = new Date(Date.now() + 30 * DAY_MS),
      extensions = caExtensions(),
    } = {}) => {
      const keys = await generateKeys()
      const certificate = await sign(signer, {
        name: `CN=${trustDomain} issuer`,
        notBefore,
        notAfter,
        publicKey: keys.publicKey,
        extensions: [...extensions],
      })
      return authority(trustDomain, root, { certificate, keys, chain: pem(certificate) + signer.chain })
    },
  }
}

async function issue(signer: Signer, options: IssueOptions): Promise<Issued> {
  const keys = options.publicKey ? undefined : await generateKeys()
  const certificate = await sign(signer, {
    name: options.subject ?? '',
    notBefore: options.notBefore ?? new Date(Date.now() - 5 * MINUTE_MS),
    notAfter: options.notAfter ?? new Date(Date.now() + HOUR_MS),
    publicKey: keys?.publicKey ?? (await importKey(options.publicKey)),
    extensions: [...(options.onlyExtensions ?? leafExtensions(options))],
  })
  const key = keys ? await exportKey(keys.privateKey) : ''
  const leaf = pem(certificate)
  const { serialNumber: serial, notBefore, notAfter } = certificate
  const chain = leaf + signer.chain
  return {
    key,
    chain,
    leaf,
    serial,
    notBefore,
    notAfter,
    credential: (generation = 1) => ({
      generation,
      identity: parseSpiffeId(options.identity ?? '').id,
      key,
      chain,
      serial,
      notBefore,
      notAfter,
    }),
  }
}

function leafExtensions(options: IssueOptions): Extension[] {
  const {
    identity,
    uris = identity === undefined ? [] : [identity],
    dns = [],
    isCa = false,
    keyUsage = KeyUsageFlags.digitalSignature,
    extKeyUsage = [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth],
  } = options
  const names = [
    ...uris.map(value => ({ type: 'url' as const, value })),
    ...dns.map(value => ({ type: 'dns' as const, value })),
  ]
  return [
    new BasicConstraintsExtension(isCa, undefined, true),
    new KeyUsagesExtension(keyUsage, true),
    ...(extKeyUsage.length > 0 ? [new ExtendedKeyUsageExtension([...extKeyUsage])] : []),
    ...(names.length > 0 ? [new SubjectAlternativeNameExtension(names, true)] : []),
    ...(options.extensions ?? []),
  ]
}

const caExtensions = (): Extension[] => [
  new BasicConstraintsExtension(true, undefined, true),
  new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
]

const generateKeys = (): Promise<Keys> => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])

type Signed = {
  name: string
  notBefore: Date
  notAfter: Date
  publicKey: webcrypto.CryptoKey
  extensions: Extension[]
}

const sign = (signer: Signer, { name, ...signed }: Signed): Promise<X509Certificate> =>
  X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: name,
    issuer: signer.certificate.subject,
    signingKey: signer.keys.privateKey,
    signingAlgorithm: ALGORITHM,
    ...signed,
  })

/** Positive, with a first byte that needs no padding. */
const serialNumber = (): string => `4${randomBytes(8).toString('hex').slice(1)}`

const pem = (certificate: X509Certificate): string => `${certificate.toString('pem')}\n`

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))
  return String(
    createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ format: 'pem', type: 'pkcs8' }),
  )
}

function importKey(spki: Buffer | undefined): Promise<webcrypto.CryptoKey> {
  const der = createPublicKey({ key: spki ?? Buffer.alloc(0), format: 'der', type: 'spki' })
  return webcrypto.subtle.importKey('spki', der.export({ format: 'der', type: 'spki' }), ALGORITHM, true, [
    'verify',
  ])
}

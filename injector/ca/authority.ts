// The built-in certificate authority: a root (5 years), an issuer under it (30 days), and leaves that are built from
// a derived identity and a public key alone. Nothing of a request's own text reaches a certificate.
import 'reflect-metadata'
import { randomBytes, webcrypto } from 'node:crypto'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonName,
  KeyUsageFlags,
  KeyUsagesExtension,
  PublicKey,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'
import type { CaRecord } from '../../shared/ca/record.ts'
import { PosternError } from '../../shared/errors.ts'
import { type Certificate, parseCertificate } from '../../shared/x509/certificate.ts'
import { OID } from '../../shared/x509/oids.ts'
import { decodePem, encodePem } from '../../shared/x509/pem.ts'

const DAY_SECONDS = 24 * 3600
const ROOT_LIFETIME_SECONDS = 5 * 365 * DAY_SECONDS
export const ISSUER_LIFETIME_SECONDS = 30 * DAY_SECONDS
/** Clocks of nodes may be this far behind ours without refusing what we sign. */
export const BACKDATE_SECONDS = 300

const P256 = { name: 'ECDSA', namedCurve: 'P-256' }
const BOTH_ENDS = [OID.serverAuth, OID.clientAuth]
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' }

/** A CA certificate (PEM) and its private key (PEM, PKCS#8). The key is never logged. */
export type KeyedCa = { readonly certificate: string; readonly key: string }

/** What signs, and what is trusted. */
export type CaMaterial = {
  readonly root: KeyedCa
  readonly issuer: KeyedCa
  /** Published, so that it is trusted everywhere before it signs. */
  readonly next?: KeyedCa
  /** PEM, one each: roots that sign no more, until their last certificate has expired. Their keys are gone. */
  readonly retired?: readonly string[]
  /** Absent: the root was never rotated. */
  readonly record?: CaRecord
}

/** PEM certificates of the roots that are trusted; the one that signs comes first. */
export const bundleOf = ({ root, next, retired = [] }: CaMaterial): readonly string[] =>
  [root.certificate, ...(next ? [next.certificate] : []), ...retired].map(pem => parseCertificate(pem).pem)

export type LeafRequest = {
  readonly publicKeySpki: Buffer
  /**
   * Cut to what X.520 allows; a label for people, never an identity. Left out where there is no DNS name: many clients would
   * take it for the host's.
   */
  readonly commonName?: string
  /** Beside the common name: what tells this pod's certificates from others' (shared/x509/subject.ts). */
  readonly podUid?: string
  readonly dnsNames: readonly string[]
  readonly ipAddresses?: readonly string[]
  readonly uri?: string
  /** Beside digital signature: the RSA key exchange of TLS 1.2. */
  readonly keyEncipherment?: boolean
  /** Object identifiers. Absent: both ends of a connection, as an SVID has them. */
  readonly extKeyUsage?: readonly string[]
  /** From `now` on. */
  readonly lifetimeSeconds: number
  /** Absent: BACKDATE_SECONDS. */
  readonly backdateSeconds?: number
  /** Milliseconds since the epoch. */
  readonly now: number
}

export type IssuedLeaf = {
  /** PEM: the leaf, then the issuer. */
  readonly chain: string
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
}

export type Authority = {
  /** PEM certificates that the trust bundle publishes. */
  readonly roots: readonly string[]
  readonly issuer: Certificate
  /** @throws PosternError PSTN_CSR_FAILED if the issuer has expired. */
  issue(request: LeafRequest): Promise<IssuedLeaf>
}

type Template = {
  readonly subject: JsonName
  readonly publicKey: PublicKey | webcrypto.CryptoKey
  readonly lifetimeSeconds: number
  readonly backdateSeconds?: number | undefined
  readonly now: number
  readonly extensions: readonly Extension[]
}

type Signer = { readonly certificate: X509Certificate; readonly key: webcrypto.CryptoKey }

export async function createRoot(trustDomain: string, now: number): Promise<KeyedCa> {
  const keys = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])
  const template = caTemplate(
    `${trustDomain} root`,
    trustDomain,
    keys.publicKey,
    ROOT_LIFETIME_SECONDS,
    now,
    1,
  )
  return { certificate: await certify(template, keys.privateKey), key: await exportKey(keys.privateKey) }
}

/** A new issuer under `root`, with a new key. */
export async function createIssuer(root: KeyedCa, trustDomain: string, now: number): Promise<KeyedCa> {
  const keys = await webcrypto.subtle.generateKey(P256, true, ['sign', 'verify'])
  const lifetime = ISSUER_LIFETIME_SECONDS
  const template = caTemplate(`${trustDomain} issuer`, trustDomain, keys.publicKey, lifetime, now, 0)
  const signer = await loadSigner(root)
  return { certificate: await certify(template, signer), key: await exportKey(keys.privateKey) }
}

/** The material in a form that signs; it was validated by whoever read it. */
export async function openAuthority(material: CaMaterial): Promise<Authority> {
  const { issuer } = material
  const signer = await loadSigner(issuer)
  return {
    roots: bundleOf(material),
    issuer: parseCertificate(issuer.certificate),
    issue: request => issueLeaf(signer, request),
  }
}

async function issueLeaf(signer: Signer, request: LeafRequest): Promise<IssuedLeaf> {
  const { publicKeySpki, commonName, podUid, dnsNames, ipAddresses = [], uri, lifetimeSeconds, now } = request
  const { keyEncipherment = false, extKeyUsage = BOTH_ENDS, backdateSeconds } = request
  const { digitalSignature } = KeyUsageFlags
  const keyUsage = keyEncipherment ? digitalSignature | KeyUsageFlags.keyEncipherment : digitalSignature
  if (now >= signer.certificate.notAfter.getTime()) {
    const expired = signer.certificate.notAfter.toISOString()
    throw new PosternError(
      'PSTN_CSR_FAILED',
      `the issuer expired at ${expired}; the leader has not renewed it`,
    )
  }
  const names = [
    ...(uri === undefined ? [] : [{ type: 'url' as const, value: uri }]),
    ...dnsNames.map(value => ({ type: 'dns' as const, value })),
    ...ipAddresses.map(value => ({ type: 'ip' as const, value })),
  ]
  const subject: JsonName = [
    ...(commonName === undefined || dnsNames.length === 0 ? [] : [{ CN: [cut(commonName)] }]),
    ...(podUid === undefined ? [] : [{ [OID.serialNumber]: [podUid] }]),
  ]
  const pem = await certify(
    {
      subject,
      publicKey: await PublicKey.create(new Uint8Array(publicKeySpki)),
      lifetimeSeconds,
      backdateSeconds,
      now,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(keyUsage, true),
        new ExtendedKeyUsageExtension([...extKeyUsage]),
        // RFC 5280, 4.2.1.6: critical where the subject is empty.
        new SubjectAlternativeNameExtension(names, subject.length === 0),
      ],
    },
    signer,
  )
  const { serial, notBefore, notAfter } = parseCertificate(pem)
  return {
    chain: pem + parseCertificate(signer.certificate.toString('pem')).pem,
    serial,
    notBefore,
    notAfter,
  }
}

function caTemplate(
  commonName: string,
  trustDomain: string,
  publicKey: webcrypto.CryptoKey,
  lifetimeSeconds: number,
  now: number,
  pathLength: number,
): Template {
  return {
    subject: [{ O: ['Postern'] }, { CN: [cut(commonName)] }],
    publicKey,
    lifetimeSeconds,
    now,
    extensions: [
      new BasicConstraintsExtension(true, pathLength, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      // SPIFFE X.509-SVID, section 3.1: a signing certificate may name its trust domain, without a path.
      new SubjectAlternativeNameExtension([{ type: 'url', value: trustDomainUri(trustDomain) }]),
    ],
  }
}

export const trustDomainUri = (trustDomain: string): string => `spiffe://${trustDomain}`

/** Signs the template, by itself if `signer` is a bare key. Never outlives the signer. */
async function certify(template: Template, signer: Signer | webcrypto.CryptoKey): Promise<string> {
  const {
    subject,
    publicKey,
    lifetimeSeconds,
    backdateSeconds = BACKDATE_SECONDS,
    now,
    extensions,
  } = template
  const parent = 'certificate' in signer ? signer : undefined
  const end = now + lifetimeSeconds * 1000
  const certificate = await X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    subject,
    issuer: parent ? parent.certificate.subjectName : subject,
    notBefore: wholeSecond(now - backdateSeconds * 1000),
    notAfter: wholeSecond(Math.min(end, parent?.certificate.notAfter.getTime() ?? end)),
    publicKey,
    signingKey: 'certificate' in signer ? signer.key : signer,
    signingAlgorithm: SIGNATURE,
    extensions: [
      ...extensions,
      await SubjectKeyIdentifierExtension.create(publicKey),
      ...(parent ? [await authorityKeyId(parent.certificate)] : []),
    ],
  })
  return encodePem('CERTIFICATE', Buffer.from(certificate.rawData))
}

/** The signer's own key identifier, however it was computed: OpenSSL refuses a chain in which the two differ. */
async function authorityKeyId(signer: X509Certificate): Promise<AuthorityKeyIdentifierExtension> {
  const own = signer.getExtension(SubjectKeyIdentifierExtension)
  return own
    ? new AuthorityKeyIdentifierExtension(own.keyId)
    : await AuthorityKeyIdentifierExtension.create(signer.publicKey)
}

async function loadSigner({ certificate, key }: KeyedCa): Promise<Signer> {
  const pkcs8 = decodePem('PRIVATE KEY', key)
  if (!pkcs8)
    throw new PosternError('PSTN_CONFIG_INVALID', 'a CA key is not one PEM block PRIVATE KEY (PKCS#8)')
  return {
    certificate: new X509Certificate(certificate),
    key: await webcrypto.subtle.importKey('pkcs8', new Uint8Array(pkcs8), P256, false, ['sign']),
  }
}

const exportKey = async (key: webcrypto.CryptoKey): Promise<string> =>
  encodePem('PRIVATE KEY', Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key)))

/** 128 bits, of which the two highest are fixed so that it is positive and has no leading zero. */
function randomSerial(): string {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40, 0)
  return bytes.toString('hex')
}

/** X.509 times have whole seconds. */
const wholeSecond = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000)

const MAX_COMMON_NAME_BYTES = 64
const cut = (name: string): string => name.slice(0, MAX_COMMON_NAME_BYTES)

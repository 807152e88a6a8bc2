// The CA's Secret as a value. What it holds decides whom the whole mesh trusts, so it is validated whole before use,
// with an error that names the key; a Secret that does not pass is left as it is for a human.
import { createPrivateKey } from 'node:crypto'
import { PosternError } from '../../shared/errors.ts'
import { CA_SECRET } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { type Certificate, parseCertificate } from '../../shared/x509/certificate.ts'
import { type CaMaterial, type KeyedCa, trustDomainUri } from './authority.ts'

export type SecretObject = {
  readonly apiVersion: 'v1'
  readonly kind: 'Secret'
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly resourceVersion?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly type?: string
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>
}

export function toSecret(material: CaMaterial, namespace: string): SecretObject {
  const empty = { apiVersion: 'v1', kind: 'Secret', metadata: { name: CA_SECRET, namespace } } as const
  return withMaterial({ ...empty, type: 'Opaque' }, material)
}

/** The Secret with another CA in it; what people and tools added to it stays. */
export const withMaterial = (secret: SecretObject, { root, issuer }: CaMaterial): SecretObject => ({
  ...secret,
  data: {
    ...secret.data,
    'root.crt': base64(root.certificate),
    'root.key': base64(root.key),
    'issuer.crt': base64(issuer.certificate),
    'issuer.key': base64(issuer.key),
  },
})

/** The Secret as it can be created again. */
export function anew({ metadata, ...secret }: SecretObject): SecretObject {
  const { name, namespace, labels = {}, annotations = {} } = metadata
  return { ...secret, metadata: { name, namespace, labels, annotations } }
}

const base64 = (text: string): string => Buffer.from(text).toString('base64')

/** @throws PosternError PSTN_CONFIG_INVALID naming what is wrong; never with key material. */
export function fromSecret(secret: SecretObject, trustDomain: string, now: number): CaMaterial {
  const refuse: Refuse = (key, why) => {
    const { namespace, name } = secret.metadata
    return new PosternError('PSTN_CONFIG_INVALID', `Secret ${namespace}/${name}, ${key}: ${why}`)
  }
  const root = readCa(secret, 'root', refuse)
  const issuer = readCa(secret, 'issuer', refuse)
  for (const [name, { parsed }] of Object.entries({ root, issuer })) {
    const foreign = parsed.uriSans.find(uri => uri !== trustDomainUri(trustDomain))
    if (foreign) throw refuse(`${name}.crt`, `it is for ${foreign}, the trust domain is ${trustDomain}`)
  }
  if (!root.parsed.isSignedBy(root.parsed)) throw refuse('root.crt', 'it is not self-signed')
  if (!issuer.parsed.isSignedBy(root.parsed)) throw refuse('issuer.crt', 'root.crt did not sign it')
  if (root.parsed.pathLength === 0) throw refuse('root.crt', 'its path length of 0 allows no issuer below it')
  if (now >= root.parsed.notAfter.getTime()) throw refuse('root.crt', 'it has expired')
  return { root: root.keyed, issuer: issuer.keyed }
}

type Refuse = (key: string, why: string) => PosternError

function readCa(
  { data = {} }: SecretObject,
  name: 'root' | 'issuer',
  refuse: Refuse,
): { keyed: KeyedCa; parsed: Certificate } {
  const text = (entry: string): string => {
    const value = data[entry]
    if (!value) throw refuse(entry, 'missing')
    return Buffer.from(value, 'base64').toString('utf8')
  }
  const [certificate, key] = [text(`${name}.crt`), text(`${name}.key`)]
  const count = splitPem(certificate).length
  if (count > 1) throw refuse(`${name}.crt`, `${count} certificates in place of one`)
  const parsed = attempt(
    () => parseCertificate(certificate),
    () => refuse(`${name}.crt`, 'not a certificate'),
  )
  const privateKey = attempt(
    () => createPrivateKey(key),
    () => refuse(`${name}.key`, 'not a private key'),
  )
  if (privateKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw refuse(`${name}.key`, 'not a P-256 key')
  if (!parsed.x509.checkPrivateKey(privateKey)) throw refuse(`${name}.key`, `not the key of ${name}.crt`)
  if (!parsed.isCa || !parsed.keyUsage?.has('keyCertSign'))
    throw refuse(`${name}.crt`, 'not a CA certificate')
  const pkcs8 = privateKey.export({ format: 'pem', type: 'pkcs8' })
  return { keyed: { certificate: parsed.pem, key: String(pkcs8) }, parsed }
}

function attempt<T>(read: () => T, refusal: () => PosternError): T {
  try {
    return read()
  } catch {
    throw refusal() // without the cause: OpenSSL's message may quote the input
  }
}

// The CA's Secret as a value. What it holds decides whom the whole mesh trusts, so it is validated whole before use,
// with an error that names the key; a Secret that does not pass is left as it is for a human.
import { createPrivateKey } from 'node:crypto'
import { type CaRecord, decodeCaRecord, NO_RECORD } from '../../shared/ca/record.ts'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { CA_SECRET } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { type Certificate, parseCertificate } from '../../shared/x509/certificate.ts'
import { type CaMaterial, type KeyedCa, trustDomainUri } from './authority.ts'

const RETIRED_KEY = 'retired-roots.crt'
const RECORD_KEY = 'rotation.json'

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
export function withMaterial(secret: SecretObject, material: CaMaterial): SecretObject {
  const others = Object.entries(secret.data ?? {}).filter(([key]) => !OWN_KEYS.has(key))
  const own = Object.entries(textsOf(material)).map(([key, text]) => [key, base64(text)])
  return { ...secret, data: Object.fromEntries([...others, ...own]) }
}

const OWN_KEYS: ReadonlySet<string> = new Set([
  ...['root', 'issuer', 'next-root'].flatMap(name => [`${name}.crt`, `${name}.key`]),
  RETIRED_KEY,
  RECORD_KEY,
])

const textsOf = ({ root, issuer, next, retired = [], record }: CaMaterial): Record<string, string> => ({
  'root.crt': root.certificate,
  'root.key': root.key,
  'issuer.crt': issuer.certificate,
  'issuer.key': issuer.key,
  ...(next && { 'next-root.crt': next.certificate, 'next-root.key': next.key }),
  ...(retired.length > 0 && { [RETIRED_KEY]: retired.join('') }),
  ...(record && { [RECORD_KEY]: `${JSON.stringify(record, null, 2)}\n` }),
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
  const next = holds(secret, 'next-root.crt', 'next-root.key')
    ? readCa(secret, 'next-root', refuse)
    : undefined
  const retired = readRetired(secret, refuse)
  const named = { 'root.crt': root.parsed, 'issuer.crt': issuer.parsed, 'next-root.crt': next?.parsed }
  for (const [key, parsed] of Object.entries(named)) checkDomain(parsed, trustDomain, key, refuse)
  checkRoot(root.parsed, 'root.crt', now, refuse)
  if (!issuer.parsed.isSignedBy(root.parsed)) throw refuse('issuer.crt', 'root.crt did not sign it')
  if (next) checkRoot(next.parsed, 'next-root.crt', now, refuse)
  for (const parsed of retired) {
    checkDomain(parsed, trustDomain, RETIRED_KEY, refuse)
    if (!parsed.isSignedBy(parsed)) throw refuse(RETIRED_KEY, `${parsed.serial} is not self-signed`)
  }
  checkDistinct([root.parsed, ...(next ? [next.parsed] : []), ...retired], refuse)
  const record = readRecord(secret, refuse)
  checkPhase(record ?? NO_RECORD, { next: next !== undefined, retired: retired.length > 0 }, refuse)
  return {
    root: root.keyed,
    issuer: issuer.keyed,
    ...(next && { next: next.keyed }),
    ...(retired.length > 0 && { retired: retired.map(({ pem }) => pem) }),
    ...(record && { record }),
  }
}

const holds = ({ data = {} }: SecretObject, ...keys: string[]): boolean =>
  keys.some(key => data[key] !== undefined)

const textOf = ({ data = {} }: SecretObject, key: string): string =>
  Buffer.from(data[key] ?? '', 'base64').toString('utf8')

function checkDomain(
  parsed: Certificate | undefined,
  trustDomain: string,
  key: string,
  refuse: Refuse,
): void {
  const foreign = parsed?.uriSans.find(uri => uri !== trustDomainUri(trustDomain))
  if (foreign) throw refuse(key, `it is for ${foreign}, the trust domain is ${trustDomain}`)
}

function checkRoot(root: Certificate, key: string, now: number, refuse: Refuse): void {
  if (!root.isSignedBy(root)) throw refuse(key, 'it is not self-signed')
  if (root.pathLength === 0) throw refuse(key, 'its path length of 0 allows no issuer below it')
  if (now >= root.notAfter.getTime()) throw refuse(key, 'it has expired')
}

/** Of roots that sign no more. One that has expired is harmless, and about to go. */
function readRetired(secret: SecretObject, refuse: Refuse): readonly Certificate[] {
  if (!holds(secret, RETIRED_KEY)) return []
  const found = attempt(
    () => splitPem(textOf(secret, RETIRED_KEY)).map(parseCertificate),
    () => refuse(RETIRED_KEY, 'it holds what is not a certificate'),
  )
  if (found.length === 0) throw refuse(RETIRED_KEY, 'it holds no certificate')
  const leaf = found.find(({ isCa }) => !isCa)
  if (leaf) throw refuse(RETIRED_KEY, `${leaf.serial} is not a CA certificate`)
  return found
}

function checkDistinct(roots: readonly Certificate[], refuse: Refuse): void {
  const keys = roots.map(({ spki }) => spki.toString('hex'))
  if (new Set(keys).size < keys.length)
    throw refuse('root.crt, next-root.crt and retired-roots.crt', 'two of these roots have the same key')
}

function readRecord(secret: SecretObject, refuse: Refuse): CaRecord | undefined {
  if (!holds(secret, RECORD_KEY)) return undefined
  const value: unknown = attempt(
    () => JSON.parse(textOf(secret, RECORD_KEY)),
    () => refuse(RECORD_KEY, 'not JSON'),
  )
  try {
    return decodeCaRecord(value, RECORD_KEY)
  } catch (thrown) {
    throw refuse(RECORD_KEY, asPosternError(thrown, 'PSTN_CONFIG_INVALID').message)
  }
}

/** A next root without a rotation, or the other way round, is an edit by hand: nobody would ever finish it. */
function checkPhase(
  { phase, rotation }: CaRecord,
  { next, retired }: { readonly next: boolean; readonly retired: boolean },
  refuse: Refuse,
): void {
  const wrong = (why: string) => refuse(RECORD_KEY, `the phase is ${phase}, but ${why}`)
  if (next !== (phase === 'publishing')) throw wrong(`next-root.crt is ${next ? 'there' : 'missing'}`)
  if (retired !== (phase === 'switched')) throw wrong(`${RETIRED_KEY} is ${retired ? 'there' : 'missing'}`)
  if ((rotation !== undefined) !== (phase !== 'idle'))
    throw wrong(`its rotation is ${rotation ? 'there' : 'missing'}`)
  if (phase === 'switched' && !rotation?.switched) throw wrong('rotation.switched is missing')
}

type Refuse = (key: string, why: string) => PosternError

function readCa(
  { data = {} }: SecretObject,
  name: 'root' | 'issuer' | 'next-root',
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

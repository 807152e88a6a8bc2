// A credential that something else made: what files or the Workload API hold now, before anything of it is checked. Key
// and chain belong together and are only ever taken together.
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { asPosternError, PosternError } from '../../shared/errors.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import { checkIssuedChain, type IssuedAnswer, type IssuedChain } from '../../shared/x509/answer.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'

/** All PEM. */
export type Offer = {
  readonly key: string
  /** The leaf first. */
  readonly chain: string
  /** The roots that the source itself would trust; said in a refusal, never trusted. */
  readonly bundle?: readonly string[]
}

export type OfferContext = {
  readonly identity: SpiffeId
  /** The published trust bundle: what every peer of this pod judges it by. */
  readonly roots: readonly string[]
  readonly now: number
  readonly skewMs?: number | undefined
}

/** `key`: PEM, PKCS#8. */
export type TakenOffer = IssuedChain & { readonly key: string }

export const isSameOffer = (a: Offer | undefined, b: Offer): boolean =>
  a?.key === b.key && a.chain === b.chain

/** @throws PosternError PSTN_SOURCE_INVALID with the reason, or PSTN_CLOCK_SKEW if only our clock refuses it. */
export function checkOffer(offer: Offer, context: OfferContext): TakenOffer {
  const privateKey = readKey(offer.key)
  const issued = checkChain(offer, createPublicKey(privateKey), context)
  const key = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
  checkUsable(key, issued.chain)
  return { ...issued, key }
}

function checkChain(offer: Offer, publicKey: KeyObject, context: OfferContext): IssuedChain {
  const { chain: chainPem, bundle } = offer
  try {
    return checkIssuedChain({ ...context, chainPem, publicKey })
  } catch (thrown) {
    const { code, message } = asPosternError(thrown, 'PSTN_SOURCE_INVALID')
    if (code === 'PSTN_CLOCK_SKEW') throw thrown
    const wouldDo = bundle && isTrustedBy(bundle, { ...context, chainPem, publicKey })
    throw invalid(wouldDo ? `${message}. ${unpublished(bundle)}` : message)
  }
}

/** The one flaw that is nobody's fault here, and that nobody would guess. */
const unpublished = (bundle: readonly string[]): string => {
  const prints = bundle.map(root => parseCertificate(root).fingerprint256).join(', ')
  return `The source’s own bundle would do (SHA-256 ${prints}), and is not in the one that is published`
}

function isTrustedBy(roots: readonly string[], answer: IssuedAnswer): boolean {
  try {
    checkIssuedChain({ ...answer, roots })
    return true
  } catch {
    return false
  }
}

const invalid = (reason: string): PosternError => new PosternError('PSTN_SOURCE_INVALID', reason)

const KEY_TYPES: readonly (string | undefined)[] = ['ec', 'rsa', 'ed25519']

/** OpenSSL's own words are left out: they are about bytes of a key. */
function readKey(pem: string): KeyObject {
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch {
    throw invalid('the key does not parse')
  }
  if (!KEY_TYPES.includes(key.asymmetricKeyType))
    throw invalid(`a key of the type ${key.asymmetricKeyType} cannot sign for TLS`)
  if (!isOneKey(key)) throw invalid('the private half of the key belongs to another public half')
  return key
}

/** A file that is written over another holds, for a moment, halves of two keys; OpenSSL does not compare them. */
function isOneKey(key: KeyObject): boolean {
  const digest = key.asymmetricKeyType === 'ed25519' ? null : 'sha256'
  const proof = randomBytes(32)
  return verify(digest, proof, createPublicKey(key), sign(digest, proof, key))
}

/** What OpenSSL would refuse once it is to be used, a key that is too short for one. */
function checkUsable(key: string, cert: string): void {
  try {
    createSecureContext({ key, cert })
  } catch {
    throw invalid('OpenSSL refuses the key or the chain')
  }
}

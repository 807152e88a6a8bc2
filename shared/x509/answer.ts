// What a sidecar checks before it uses a certificate that a signer issued. The API server checks nothing of it: not
// that the certificate fits the key, not that anyone approved it.
import type { KeyObject } from 'node:crypto'
import { asPosternError, PosternError } from '../errors.ts'
import { parseSpiffeId, type SpiffeId } from '../spiffe-id.ts'
import { splitPem } from '../trust-bundle.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { checkSvidLeaf } from './svid.ts'

export type IssuedAnswer = {
  /** `status.certificate`, decoded: the leaf first. */
  readonly chainPem: string
  readonly publicKey: KeyObject
  readonly identity: SpiffeId
  /** PEM of the roots of the identity's trust domain. */
  readonly roots: readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
}

export type IssuedChain = {
  /** Lower-case hex. */
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** PEM: the leaf, then each intermediate after what it signed; without the root. */
  readonly chain: string
}

/** Signers without a backdate may be this far ahead of our clock before it counts as skew. */
const FUTURE_TOLERANCE_MS = 60_000
const MAX_CHAIN = 8

/** @throws PosternError PSTN_CLOCK_SKEW if it is not valid yet, PSTN_CSR_ANSWER_INVALID for anything else, with the reason. */
export function checkIssuedChain({ chainPem, publicKey, identity, roots, now }: IssuedAnswer): IssuedChain {
  const [leaf, ...others] = parseAll(splitPem(chainPem), 'the answer')
  if (!leaf) throw invalid('it holds no certificate')
  if (others.length >= MAX_CHAIN) throw invalid(`a chain of more than ${MAX_CHAIN} certificates`)
  if (!leaf.spki.equals(publicKey.export({ format: 'der', type: 'spki' })))
    throw invalid('it is for another key')
  // A clock slightly behind the signer's is forgiven: the leaf is judged as of its first valid moment.
  const judged = Math.max(now, Math.min(leaf.notBefore.getTime(), now + FUTURE_TOLERANCE_MS))
  if (judged < leaf.notBefore.getTime()) {
    const when = `${leaf.notBefore.toISOString()}, our clock says ${new Date(now).toISOString()}`
    throw new PosternError('PSTN_CLOCK_SKEW', `the issued certificate is valid from ${when}`)
  }
  const named = checkLeaf(leaf, parseSpiffeId(identity).trustDomain, judged)
  if (named !== identity) throw invalid(`it is for ${named}, not for ${identity}`)
  const chain = chainToRoot(leaf, others, parseAll(roots, 'the trust bundle'), judged)
  const { serial, notBefore, notAfter } = leaf
  return { serial, notBefore, notAfter, chain: chain.map(({ pem }) => pem).join('') }
}

const invalid = (reason: string, cause?: unknown): PosternError =>
  new PosternError('PSTN_CSR_ANSWER_INVALID', `the issued certificate was thrown away: ${reason}`, { cause })

function checkLeaf(leaf: Certificate, trustDomain: string, now: number): SpiffeId {
  try {
    return checkSvidLeaf(leaf, { trustDomain, now })
  } catch (cause) {
    throw invalid(asPosternError(cause, 'PSTN_CSR_ANSWER_INVALID').message, cause)
  }
}

function parseAll(pems: readonly string[], where: string): Certificate[] {
  try {
    return pems.map(parseCertificate)
  } catch (cause) {
    throw invalid(`${where} holds what is not a certificate`, cause)
  }
}

/**
 * The leaf and its intermediates in order, each signed by the next, the last by a root. Of a cross-signed issuer's
 * certificates (one key) only one may lead on. Breadth first: each is tried once, where its path length allows most.
 */
function chainToRoot(
  leaf: Certificate,
  others: readonly Certificate[],
  roots: readonly Certificate[],
  now: number,
): Certificate[] {
  const tried = new Set([leaf])
  const chains = [[leaf]]
  for (const chain of chains) {
    const last = chain.at(-1) ?? leaf
    const below = chain.length - 1
    if (roots.some(root => maySign(root, last, below, now))) return chain
    for (const other of others) {
      if (tried.has(other) || !maySign(other, last, below, now)) continue
      tried.add(other)
      chains.push([...chain, other])
    }
  }
  throw invalid('its chain does not lead to a root of the trust bundle')
}

/** RFC 5280, 6.1.4: `below` is the number of intermediates between `ca` and the leaf. */
function maySign(ca: Certificate, signed: Certificate, below: number, now: number): boolean {
  return (
    ca.isCa &&
    (ca.keyUsage?.has('keyCertSign') ?? true) &&
    (ca.pathLength === undefined || ca.pathLength >= below) &&
    now >= ca.notBefore.getTime() &&
    now <= ca.notAfter.getTime() &&
    signed.isSignedBy(ca)
  )
}

// What a sidecar checks before it uses a certificate that a signer issued. The API server checks nothing of it: not
// that the certificate fits the key, not that anyone approved it.
import type { KeyObject } from 'node:crypto'
import { asPosternError, PosternError } from '../errors.ts'
import { parseSpiffeId, type SpiffeId } from '../spiffe-id.ts'
import { splitPem } from '../trust-bundle.ts'
import { type Certificate, parseCertificate } from './certificate.ts'
import { forbiddenName } from './name-constraints.ts'
import { checkSvidLeaf, signingFlaw } from './svid.ts'

export type IssuedAnswer = {
  /** `status.certificate`, decoded: in order, if the signer keeps to the API. */
  readonly chainPem: string
  readonly publicKey: KeyObject
  readonly identity: SpiffeId
  /** PEM of the roots of the identity's trust domain. */
  readonly roots: readonly string[]
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Our clock less the API server's, if that was measured: tells a clock that is ahead from an answer that is old. */
  readonly skewMs?: number | undefined
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
/** The API server tells the time in whole seconds, and its answer has travelled. */
const AGREE_SECONDS = 5

/**
 * @throws PosternError PSTN_CLOCK_SKEW if it is not valid yet, or not any more by our clock alone;
 * PSTN_CSR_ANSWER_INVALID for anything else, with the reason.
 */
export function checkIssuedChain(answer: IssuedAnswer): IssuedChain {
  const { chainPem, publicKey, identity, roots, now } = answer
  const issued = parseAll(splitPem(chainPem), 'the answer')
  if (issued.length === 0) throw invalid('it holds no certificate')
  if (issued.length > MAX_CHAIN) throw invalid(`a chain of more than ${MAX_CHAIN} certificates`)
  const spki = publicKey.export({ format: 'der', type: 'spki' })
  const leaf = issued.find(certificate => certificate.spki.equals(spki))
  if (!leaf) throw invalid('it is for another key')
  const others = issued.filter(certificate => certificate !== leaf)
  // A clock slightly behind the signer's is forgiven: the leaf is judged as of its first valid moment.
  const judged = Math.max(now, Math.min(leaf.notBefore.getTime(), now + FUTURE_TOLERANCE_MS))
  checkClock(leaf, answer, judged)
  const named = checkLeaf(leaf, parseSpiffeId(identity).trustDomain, judged)
  if (named !== identity) throw invalid(`it is for ${named}, not for ${identity}`)
  const chain = chainToRoot(leaf, others, parseAll(roots, 'the trust bundle'), judged)
  const { serial, notBefore, notAfter } = leaf
  return { serial, notBefore, notAfter, chain: chain.map(({ pem }) => pem).join('') }
}

function checkClock(
  { notBefore, notAfter }: Certificate,
  { now, skewMs }: IssuedAnswer,
  judged: number,
): void {
  const isEarly = judged < notBefore.getTime()
  const isLate = now > notAfter.getTime() && skewMs !== undefined && now - skewMs <= notAfter.getTime()
  if (!isEarly && !isLate) return
  const bound = isEarly ? `from ${notBefore.toISOString()}` : `until ${notAfter.toISOString()}`
  const clocks = `our clock says ${new Date(now).toISOString()}, ${describeSkew(skewMs)}`
  throw new PosternError('PSTN_CLOCK_SKEW', `the issued certificate is valid ${bound}; ${clocks}`)
}

/** In words for an operator: how far off, which way, or that it is another clock that is off. */
export function describeSkew(skewMs: number | undefined): string {
  if (skewMs === undefined) return 'the API server’s is not known'
  const seconds = Math.round(Math.abs(skewMs) / 1000)
  if (seconds <= AGREE_SECONDS) return 'as the API server’s does: it is the signer’s that is off'
  return `${seconds} s ${skewMs < 0 ? 'behind' : 'ahead of'} the API server’s`
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
  const flaws: string[] = []
  for (const chain of chains) {
    const last = chain.at(-1) ?? leaf
    if (roots.some(root => last.isSignedBy(root) && !pathFlaw(root, chain, now))) return chain
    for (const other of others) {
      if (tried.has(other) || !last.isSignedBy(other)) continue
      const flaw = signingFlaw(other) ?? pathFlaw(other, chain, now)
      if (flaw) {
        flaws.push(`${other.serial}: ${flaw}`)
        continue
      }
      tried.add(other)
      chains.push([...chain, other])
    }
  }
  const reasons = flaws.length > 0 ? ` (${flaws.slice(0, MAX_CHAIN).join('; ')})` : ''
  throw invalid(`its chain does not lead to a root of the trust bundle${reasons}`)
}

/** Why `ca` may not stand above `chain`, whose last it signed (RFC 5280, 6.1.3 and 6.1.4). */
function pathFlaw(ca: Certificate, chain: readonly Certificate[], now: number): string | undefined {
  if (!ca.isCa || !(ca.keyUsage?.has('keyCertSign') ?? true)) return 'it is no CA certificate'
  if (ca.pathLength !== undefined && ca.pathLength < chain.length - 1)
    return `its path length of ${ca.pathLength} is exceeded`
  if (now < ca.notBefore.getTime() || now > ca.notAfter.getTime()) return 'it is not valid now'
  for (const below of chain) {
    const name = forbiddenName(ca, below)
    if (name !== undefined) return `its name constraints do not allow ${name}`
  }
  return undefined
}

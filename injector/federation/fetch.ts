// One question to a partner's bundle endpoint, profile https_web (SPIFFE Federation, 5.2.1.4). Whoever may write federation
// documents decides where it goes: an address of the cluster's own is no accident then. What limits a forged request is that
// only https with a certificate for that name is spoken, that nothing but the question is sent, and that redirects are not
// followed (the standard says should; who moves an endpoint tells its partners): an endpoint cannot send us elsewhere.
import { asPosternError, PosternError } from '../../shared/errors.ts'
import { readPartnerBundle } from '../../shared/federation/bundle.ts'
import { getByHttps } from '../../shared/http/https-get.ts'
import type { SpiffeBundle } from '../../shared/spiffe-bundle.ts'

export type EndpointQuestion = {
  readonly trustDomain: string
  readonly url: string
  /** PEM, in place of the public web PKI. */
  readonly roots?: readonly string[]
  /** Of our own trust domain: none of them may come back. */
  readonly ownRoots: readonly string[]
}

const FETCH_LIMITS = { bytes: 256 * 1024, ms: 10_000 } as const

/** @throws PosternError PSTN_PARTNER_UNREACHABLE, PSTN_PARTNER_INVALID; or the signal's reason. */
export async function fetchBundle(
  question: EndpointQuestion,
  signal: AbortSignal,
  limits: { readonly bytes: number; readonly ms: number } = FETCH_LIMITS,
): Promise<SpiffeBundle> {
  const { trustDomain, url, roots, ownRoots } = question
  const late = AbortSignal.timeout(limits.ms)
  let text: string
  try {
    const asked = { url, roots, most: limits.bytes, unreachable }
    text = await getByHttps(asked, AbortSignal.any([signal, late]))
  } catch (thrown) {
    signal.throwIfAborted()
    if (late.aborted) throw unreachable(`no whole answer within ${limits.ms / 1000} s`)
    const { message } = asPosternError(thrown, 'PSTN_PARTNER_UNREACHABLE')
    throw unreachable(message, thrown)
  }
  const bundle = readPartnerBundle(text, trustDomain)
  if (bundle.roots.some(root => ownRoots.includes(root)))
    throw new PosternError('PSTN_PARTNER_INVALID', 'it holds a root of this mesh itself')
  return bundle
}

const unreachable = (why: string, cause?: unknown): PosternError =>
  new PosternError('PSTN_PARTNER_UNREACHABLE', why, { cause })

// Whose roots hold for whom: our own bundle for our own trust domain, each partner's for its own, and nobody's for the rest.
import { PosternError } from '../../shared/errors.ts'
import type { Partners } from '../../shared/federation/partners.ts'
import type { Live } from '../../shared/live.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'

export type Trusted = {
  /** Our own. */
  readonly trustDomain: string
  /** Its bundle; undefined until there is one, and then nobody is trusted. */
  readonly trust: Live<TrustBundle | undefined>
  readonly partners: Live<Partners>
}

/** Without a name: our own. @throws PosternError PSTN_PEER_TRUST_DOMAIN */
export function bundleFor({ trustDomain, trust, partners }: Trusted, named = trustDomain): TrustBundle {
  if (named === trustDomain) return trust.get() ?? { trustDomain, roots: [] }
  const bundle = partners.get().bundleOf(named)
  if (bundle) return bundle
  const why = `the trust domain ${JSON.stringify(named)} is neither ours nor a partner’s`
  throw new PosternError('PSTN_PEER_TRUST_DOMAIN', why)
}

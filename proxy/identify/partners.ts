// The partners in force, from what the injector pushed or was kept over a restart. They change by themselves alone: another
// policy or prefix in the same message makes no new TLS contexts, and is no reason to look at live connections.
import { X509Certificate } from 'node:crypto'
import type { State } from '../../shared/control/messages.ts'
import { type Partners, partnersOf } from '../../shared/federation/partners.ts'
import { type Live, live } from '../../shared/live.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'

export function partnersIn(state: Live<State | undefined>, ownTrustDomain: string): Live<Partners> {
  const known = () => {
    const { partners = [], prefixes = [] } = state.get() ?? {}
    return [partners, { trustDomain: ownTrustDomain, prefixes }] as const
  }
  const partners = live(partnersOf(...known()))
  state.subscribe(() => {
    const now = known()
    if (!partners.get().equals(...now)) partners.set(partnersOf(...now))
  })
  return partners
}

/** As an operator reads it. */
export const describeBundle = ({ trustDomain, roots }: TrustBundle) => ({
  trustDomain,
  roots: roots.map(root => {
    const { fingerprint256, subject, validToDate } = new X509Certificate(root)
    return { subject, sha256: fingerprint256.replaceAll(':', '').toLowerCase(), notAfter: validToDate }
  }),
})

// Whether a peer that was identified would still be: a connection outlives the trust bundle that it was checked with,
// and a removed root must end it, without harm to those of the roots that stay, or of other trust domains.
import { type Anchors, anchorsOf, leadsTo } from '../../shared/tls/chain.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { KeepPeer } from '../tunnel/interface.ts'

/** Each peer by the roots of its own trust domain, and of no other. */
export function anchoredIn(bundleOf: (trustDomain: string) => TrustBundle | undefined): KeepPeer {
  const anchors = new Map<string, Anchors>()
  const anchorsFor = (trustDomain: string) => anchorsOf(bundleOf(trustDomain)?.roots ?? [])
  return ({ trustDomain }, socket) => leadsTo(anchors.getOrInsertComputed(trustDomain, anchorsFor), socket)
}

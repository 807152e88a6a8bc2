// Whether a peer that was identified would still be: a connection outlives the trust bundle that it was checked with,
// and a removed root must end it, without harm to those of the roots that stay.
import { anchorsOf, leadsTo } from '../../shared/tls/chain.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { KeepPeer } from '../tunnel/interface.ts'

export function anchoredIn({ roots }: TrustBundle): KeepPeer {
  const anchors = anchorsOf(roots)
  return (_peer, socket) => leadsTo(anchors, socket)
}

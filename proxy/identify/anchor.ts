// Whether a peer that was identified would still be: a connection outlives the trust bundle that it was checked with,
// and a removed root must end it, without harm to those of the roots that stay, or of other trust domains.
import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { type Anchors, anchorOf, anchorsOf } from '../../shared/tls/chain.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { KeepPeer } from '../tunnel/interface.ts'

/** Each peer by the roots of its own trust domain, and of no other. */
export type Anchorage = (bundleOf: (trustDomain: string) => TrustBundle | undefined) => KeepPeer

/**
 * Remembers by which root each connection was let in: two signatures for each of a thousand connections would stop the
 * sidecar for most of a second whenever roots change, and mostly the root of none is gone.
 */
export function createAnchorage(): Anchorage {
  const letIn = new WeakMap<TLSSocket, { readonly trustDomain: string; readonly anchor: X509Certificate }>()
  return bundleOf => {
    const known = new Map<string, Anchors>()
    const anchorsFor = (trustDomain: string) => anchorsOf(bundleOf(trustDomain)?.roots ?? [])
    return ({ trustDomain }, socket) => {
      const anchors = known.getOrInsertComputed(trustDomain, anchorsFor)
      const former = letIn.get(socket)
      if (former?.trustDomain === trustDomain && anchors.some(({ raw }) => raw.equals(former.anchor.raw)))
        return true
      const anchor = anchorOf(anchors, socket)
      if (anchor) letIn.set(socket, { trustDomain, anchor })
      return anchor !== undefined
    }
  }
}

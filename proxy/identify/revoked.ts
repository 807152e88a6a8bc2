// A peer whose chain leads to a root may still be refused: its certificate, its identity or its pod is revoked. Asked of
// everybody who comes in or is dialled, and again of who is connected when the list changes.
import { type RevocationCheck, refuseRevoked } from '../../shared/revocation.ts'
import type { IdentifyPeer, KeepPeer } from '../tunnel/interface.ts'

/** As `identify`, and PSTN_PEER_REVOKED after all its checks: only who is authentic is told that it is revoked. */
export const unlessRevoked =
  (identify: IdentifyPeer, revoked: () => RevocationCheck): IdentifyPeer =>
  (socket, trustDomain) => {
    const peer = identify(socket, trustDomain)
    refuseRevoked(revoked(), peer)
    return peer
  }

export const notRevoked =
  (revoked: RevocationCheck): KeepPeer =>
  peer =>
    revoked(peer) === undefined

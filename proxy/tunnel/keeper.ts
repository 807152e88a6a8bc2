// Who may stay holds for who comes, too: a handshake that began before a root was removed must not outlive it.
import { type Code, PosternError } from '../../shared/errors.ts'
import type { IdentifyPeer, KeepPeer } from './interface.ts'

export type Keeper = {
  /** The given check, and then the last word of closePeers. */
  readonly identify: IdentifyPeer
  set(keep: KeepPeer, code: Code): void
}

export function createKeeper(identify: IdentifyPeer): Keeper {
  let keeps: KeepPeer = () => true
  let refusal: Code = 'PSTN_PEER_UNTRUSTED'
  return {
    identify: (socket, trustDomain) => {
      const peer = identify(socket, trustDomain)
      if (keeps(peer, socket)) return peer
      throw new PosternError(refusal, `${peer.identity} is no longer trusted`)
    },
    set: (keep, code) => {
      keeps = keep
      refusal = code
    },
  }
}

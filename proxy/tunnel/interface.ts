// What the rest of the proxy knows of the tunnel. The wire is HBONE (HTTP/2 CONNECT over mutual TLS 1.3);
// which HTTP/2 implementation speaks it is decided behind this file.
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import type { MeshPod } from '../../shared/control/messages.ts'
import type { EndSignal } from '../../shared/ending.ts'
import type { Code } from '../../shared/errors.ts'
import type { PartnerPlace } from '../../shared/federation/partners.ts'
import type { VerifiedPeer } from '../../shared/tls/peer-verifier.ts'
import type { ByteStream } from './byte-stream.ts'

/** A peer that passed every check of identify/, before any application byte. */
export type Peer = VerifiedPeer

/** Who must answer where the dialler dials: a pod of ours, or any workload that a partner may have there. */
export type Expected = MeshPod | PartnerPlace

/** One CONNECT stream that a peer opened, not answered yet. Exactly one of accept and refuse is called. */
export type TunnelRequest = {
  readonly peer: Peer
  /** `:authority` as sent; parsed and checked by inbound. */
  readonly authority: string
  /** Lower-case names; only `traceparent`, `tracestate`, `baggage` and `forwarded` are kept. */
  readonly headers: Readonly<Record<string, string>>
  /** Answers 200 and gives the byte stream. */
  accept(): ByteStream
  /** Answers 400, 403 or 503 with the code in the header `postern-code`. */
  refuse(status: 400 | 403 | 503, code: Code): void
}

export type TunnelServer = AsyncDisposable & {
  /** The port that is bound. */
  readonly port: number
  /** Accepts no connection and no stream any more (GOAWAY); resolves when the last stream has ended. */
  drain(): Promise<void>
  /** Closes the connections at once whose peer no longer passes `keep` (a removed root, a revoked identity). */
  closePeers(keep: KeepPeer, code: Code): void
  /** Closes them likewise, and says who they were. Whoever comes later is judged by `identify` alone. */
  sweepPeers(keep: KeepPeer, code: Code): readonly Peer[]
}

/** What one end shows and accepts, made of the credential and the trust bundle in force. A change is a new value. */
export type TunnelTls = {
  /** The credential's: connections of another generation take no new streams. */
  readonly generation: number
  readonly notAfter: Date
  /** Key, chain, our own trust domain's roots and every other option of the TLS context. */
  readonly context: SecureContextOptions
  /** What each foreign trust domain is met with, by its name: its roots, and none of ours. */
  readonly partners: ReadonlyMap<string, PartnerTls>
}

export type PartnerTls = {
  readonly context: SecureContextOptions
  /** SNI, where we dial: our own trust domain, so that they choose our roots. */
  readonly servername: string
}

/**
 * Every check of identify/ on a TLS socket whose handshake is done. `trustDomain`: whose roots its context was chosen for;
 * absent for our own. @throws PosternError PSTN_PEER_…
 */
export type IdentifyPeer = (socket: TLSSocket, trustDomain?: string) => Peer

export type KeepPeer = (peer: Peer, socket: TLSSocket) => boolean

export type TunnelTarget = {
  /** Address of the peer's tunnel: the pod IP (the port is PORTS.tunnel). */
  readonly address: string
  readonly expected: Expected
  /** The application's address there: canonical IP and port. */
  readonly authority: string
  readonly headers: Readonly<Record<string, string>>
}

export type TunnelDialer = AsyncDisposable & {
  /**
   * Opens a stream to the application behind `target`, over a pooled connection or a new one.
   * @throws PosternError the peer's code if it refused (PSTN_POLICY_DENIED …), PSTN_PEER_… if its identity is not
   * the expected one, PSTN_PEER_UNREACHABLE or PSTN_TLS_FAILED.
   */
  open(target: TunnelTarget, signal: EndSignal): Promise<{ stream: ByteStream; peer: Peer }>
  /** As the server's. */
  closePeers(keep: KeepPeer, code: Code): void
  sweepPeers(keep: KeepPeer, code: Code): readonly Peer[]
}

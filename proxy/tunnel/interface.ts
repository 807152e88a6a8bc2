// What the rest of the proxy knows of the tunnel. The wire is HBONE (HTTP/2 CONNECT over mutual TLS 1.3);
// which HTTP/2 implementation speaks it is decided behind this file.
import type { Duplex } from 'node:stream'
import type { MeshPod } from '../../shared/control/messages.ts'
import type { Code } from '../../shared/errors.ts'
import type { SpiffeId } from '../../shared/spiffe-id.ts'

/** A peer that passed every check of identify/, before any application byte. */
export type Peer = {
  readonly identity: SpiffeId
  readonly trustDomain: string
  /** Canonical IP literal of the socket's other end. */
  readonly address: string
  /** Certificate serial, lower-case hex: rotation is visible in the access log. */
  readonly serial: string
  readonly notAfter: Date
}

/** One CONNECT stream that a peer opened, not answered yet. Exactly one of accept and refuse is called. */
export type TunnelRequest = {
  readonly peer: Peer
  /** `:authority` as sent; parsed and checked by inbound. */
  readonly authority: string
  /** Lower-case names; only `traceparent`, `tracestate`, `baggage` and `forwarded` are kept. */
  readonly headers: Readonly<Record<string, string>>
  /** Answers 200 and gives the byte stream. */
  accept(): Duplex
  /** Answers 400, 403 or 503 with the code in the header `postern-code`. */
  refuse(status: 400 | 403 | 503, code: Code): void
}

export type TunnelServer = AsyncDisposable & {
  /** Tells every peer to open no new streams (GOAWAY); existing ones go on. */
  drain(): void
  /** Closes the connections whose peer no longer passes `keep` (a removed root, a revoked identity). */
  closePeers(keep: (peer: Peer) => boolean, code: Code): void
}

export type TunnelTarget = {
  /** Address of the peer's tunnel: the pod IP (the port is PORTS.tunnel). */
  readonly address: string
  readonly pod: MeshPod
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
  open(target: TunnelTarget, signal: AbortSignal): Promise<{ stream: Duplex; peer: Peer }>
}

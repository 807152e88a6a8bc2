// What a sidecar is started with: by main.ts in a pod, or by whoever embeds one.
import type { Clock } from '../shared/clock.ts'
import type { Logger } from '../shared/log.ts'
import type { CaptureHandlers, CaptureListener } from './accept/listeners.ts'
import type { ProxyConfig } from './config.ts'

export type ProxyParts = {
  readonly config: ProxyConfig
  readonly listeners: Listeners
  readonly log: Logger
  readonly clock: Clock
  readonly random: () => number
  readonly version: string
}

/** Where a sidecar listens. In a pod: accept/pod-listeners.ts; elsewhere whatever the embedder chooses. */
export type Listeners = {
  outbound(handlers: CaptureHandlers): Promise<CaptureListener>
  inbound(handlers: CaptureHandlers): Promise<CaptureListener>
  readonly tunnel: { readonly host?: string; readonly port: number }
  readonly status: { readonly host?: string; readonly port: number }
  /** Where the machine has several addresses: the one that the injector knows this pod by. */
  readonly localAddress?: string
  /** The port of the peers’ tunnels. */
  readonly peerTunnelPort: number
}

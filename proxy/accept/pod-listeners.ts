// The listeners of a sidecar in a pod: where nftables redirects to, with the kernel's word on where that was going.
import { PORTS } from '../../shared/ports.ts'
import type { Listeners } from '../parts.ts'
import { type CaptureHandlers, type CaptureOptions, listenInbound, listenOutbound } from './listeners.ts'
import { kernelDestination } from './original-destination.ts'

/** Of each capture listener: above what a pod holds, below what its memory does. */
const MAX_CONNECTIONS = 10_000
/** Of those that others dial: one neighbour cannot take them all. */
const MAX_PER_ADDRESS = 2_500

export function podListeners(): Listeners {
  const originalDestination = kernelDestination()
  const options = (handlers: CaptureHandlers): CaptureOptions => ({
    ...handlers,
    originalDestination,
    maxConnections: MAX_CONNECTIONS,
  })
  return {
    outbound: (handlers: CaptureHandlers) => listenOutbound(options(handlers)),
    inbound: (handlers: CaptureHandlers) =>
      listenInbound({ ...options(handlers), maxPerAddress: MAX_PER_ADDRESS }),
    tunnel: { port: PORTS.tunnel },
    status: { port: PORTS.status },
    peerTunnelPort: PORTS.tunnel,
  }
}

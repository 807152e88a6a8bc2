// What this pod's application dials, from accept to its end: resolved without a guess, then carried through the tunnel
// to a pod with a sidecar, with TLS to a declared host outside the mesh, or in plaintext. Read inbound.ts beside it.
import { asPosternError } from '../shared/errors.ts'
import { checkOutboundDestination } from './accept/guards.ts'
import type { Captured } from './accept/listeners.ts'
import { splice } from './forward/splice.ts'
import { type Observer, refusalOf } from './observe/access-log.ts'
import type { ProxyMetrics } from './observe/metrics.ts'
import { type ReachParts, reach } from './reach.ts'
import { open } from './resolve/opening.ts'
import type { Resolver } from './resolve/resolver.ts'

export type OutboundParts = ReachParts & {
  /** Canonical. */
  readonly podIps: readonly string[]
  readonly resolver: Resolver
  readonly observer: Observer
  readonly metrics: Pick<ProxyMetrics, 'retries'>
}

/** One connection that the application dialled and that was redirected to us. */
export async function outbound({ stream, destination, peer }: Captured, parts: OutboundParts): Promise<void> {
  const { podIps, resolver, observer, metrics, shutdown } = parts
  const record = observer.start('outbound', { address: peer.address })
  record.destination = destination
  try {
    checkOutboundDestination(destination, podIps)

    using opened = await open(await resolver.resolve(destination.address, destination.port, shutdown), {
      signal: shutdown,
      attempt: (route, signal) => reach(route, record, parts, signal),
      onTry: (endpoint, retries) => {
        record.endpoint = endpoint
        record.retries = retries
      },
      onRetry: ({ code }) => metrics.retries.inc({ code }),
      isWanted: () => !stream.isOver,
    })

    observer.opened(record)
    using remote = opened.remote
    const { traffic } = record
    const outcome = await splice(stream, remote.stream, { signal: remote.over, traffic })
    observer.closed(record, outcome, remote.over.reason)
  } catch (thrown) {
    stream.reset()
    observer.refused(record, refusalOf(asPosternError(thrown, 'PSTN_PEER_UNREACHABLE')))
  }
}

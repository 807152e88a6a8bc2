// What this pod's application dials, from accept to its end: resolved without a guess, then carried through the tunnel
// to a pod with a sidecar, or in plaintext to what has none. Read inbound.ts beside it.
import type { EndSignal } from '../shared/ending.ts'
import { asPosternError } from '../shared/errors.ts'
import { checkOutboundDestination } from './accept/guards.ts'
import type { Captured } from './accept/listeners.ts'
import { dial } from './forward/dial.ts'
import { splice } from './forward/splice.ts'
import { type Observer, refusalOf } from './observe/access-log.ts'
import type { ConnectionRecord } from './observe/connection-record.ts'
import type { ProxyMetrics } from './observe/metrics.ts'
import { open } from './resolve/opening.ts'
import type { Resolver } from './resolve/resolver.ts'
import type { Route } from './resolve/route.ts'
import type { ByteStream } from './tunnel/byte-stream.ts'
import type { TunnelDialer } from './tunnel/interface.ts'

export type OutboundParts = {
  /** Canonical. */
  readonly podIps: readonly string[]
  readonly resolver: Resolver
  readonly dialer: TunnelDialer
  readonly observer: Observer
  readonly metrics: Pick<ProxyMetrics, 'retries'>
  /** Ends every connection: drain is over. */
  readonly shutdown: EndSignal
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
      attempt: (route, signal) => reach(route, record, parts.dialer, signal),
      onTry: (endpoint, retries) => {
        record.endpoint = endpoint
        record.retries = retries
      },
      onRetry: ({ code }) => metrics.retries.inc({ code }),
      isWanted: () => !stream.isOver,
    })

    observer.opened(record)
    const { traffic } = record
    const outcome = await splice(stream, opened.remote, { signal: shutdown, traffic })
    observer.closed(record, outcome, shutdown.reason)
  } catch (thrown) {
    stream.reset()
    observer.refused(record, refusalOf(asPosternError(thrown, 'PSTN_PEER_UNREACHABLE')))
  }
}

async function reach(
  route: Route,
  record: ConnectionRecord,
  dialer: TunnelDialer,
  signal: EndSignal,
): Promise<ByteStream> {
  if (route.kind === 'plain') {
    record.via = 'plaintext'
    record.remote = undefined
    return dial(route, { signal, code: 'PSTN_DESTINATION_UNREACHABLE', isRemote: true })
  }
  const { address, pod, authority } = route.target
  record.via = 'tunnel'
  const name = `${pod.namespace}/${pod.name}`
  record.remote = { pod: name }
  const headers = { forwarded: forwardedFor(record.source.address) }
  const { stream, peer } = await dialer.open({ address, pod, authority, headers }, signal)
  record.remote = { pod: name, identity: peer.identity, serial: peer.serial }
  return stream
}

/** RFC 7239, section 6: an IPv6 address is quoted and in brackets. */
const forwardedFor = (address: string): string =>
  address.includes(':') ? `for="[${address}]"` : `for=${address}`

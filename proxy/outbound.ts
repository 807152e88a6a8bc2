// What this pod's application dials, from accept to its end: resolved without a guess, then carried through the tunnel
// to a pod with a sidecar, or in plaintext to what has none. Read inbound.ts beside it.
import { asPosternError } from '../shared/errors.ts'
import { checkOutboundDestination } from './accept/guards.ts'
import type { Captured } from './accept/listeners.ts'
import { dial } from './forward/dial.ts'
import type { OpenCounts } from './forward/open-counts.ts'
import { SocketStream } from './forward/socket-stream.ts'
import { splice } from './forward/splice.ts'
import { type ConnectionRecord, type Observer, refusalOf } from './observe/access-log.ts'
import type { Resolver, Route } from './resolve/resolver.ts'
import type { ByteStream } from './tunnel/byte-stream.ts'
import type { TunnelDialer } from './tunnel/interface.ts'

export type OutboundParts = {
  /** Canonical. */
  readonly podIps: readonly string[]
  readonly resolver: Resolver
  readonly dialer: TunnelDialer
  /** What the resolver balances by. */
  readonly open: OpenCounts
  readonly observer: Observer
  /** Ends every connection: drain is over. */
  readonly shutdown: AbortSignal
}

/** One connection that the application dialled and that was redirected to us. */
export async function outbound({ socket, destination, peer }: Captured, parts: OutboundParts): Promise<void> {
  const { podIps, resolver, open, observer, shutdown } = parts
  const record = observer.start('outbound', { address: peer.address })
  record.destination = destination
  socket.on('error', () => {})
  try {
    checkOutboundDestination(destination, podIps)

    const route = await resolver.resolve(destination.address, destination.port, shutdown)
    using _ = open.count(addressOf(route))
    const remote = await reach(route, record, parts)

    observer.opened(record)
    const { traffic } = record
    const outcome = await splice(new SocketStream(socket), remote, { signal: shutdown, traffic })
    observer.closed(record, outcome, shutdown.reason)
  } catch (thrown) {
    socket.resetAndDestroy()
    observer.refused(record, refusalOf(asPosternError(thrown, 'PSTN_PEER_UNREACHABLE')))
  }
}

async function reach(
  route: Route,
  record: ConnectionRecord,
  { dialer, shutdown }: OutboundParts,
): Promise<ByteStream> {
  if (route.kind === 'plain') {
    record.via = 'plaintext'
    return dial(route, { signal: shutdown, code: 'PSTN_DESTINATION_UNREACHABLE' })
  }
  const { target } = route
  record.via = 'tunnel'
  const pod = `${target.pod.namespace}/${target.pod.name}`
  record.remote = { pod }
  const headers = { forwarded: forwardedFor(record.source.address) }
  const { stream, peer } = await dialer.open({ ...target, headers }, shutdown)
  record.remote = { pod, identity: peer.identity, serial: peer.serial }
  return stream
}

const addressOf = (route: Route): string => (route.kind === 'plain' ? route.address : route.target.address)

/** RFC 7239, section 6: an IPv6 address is quoted and in brackets. */
const forwardedFor = (address: string): string =>
  address.includes(':') ? `for="[${address}]"` : `for=${address}`

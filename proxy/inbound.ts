// What reaches this pod, from accept to its end: through the tunnel from identified peers, or captured in plaintext.
// Read this file and outbound.ts first; each stage is a folder of its name.
import { asPosternError } from '../shared/errors.ts'
import type { Caller } from '../shared/policy/model.ts'
import { checkInboundDestination, isStartupProbe, parseAuthority } from './accept/guards.ts'
import type { Captured } from './accept/listeners.ts'
import type { Destination } from './accept/original-destination.ts'
import type { Authorizer } from './authorize/authorizer.ts'
import { dial, KEEP_ALIVE } from './forward/dial.ts'
import { SocketStream } from './forward/socket-stream.ts'
import { splice } from './forward/splice.ts'
import { type ConnectionRecord, type Observer, type Refusal, refusalOf } from './observe/access-log.ts'
import type { ByteStream } from './tunnel/byte-stream.ts'
import type { TunnelRequest } from './tunnel/interface.ts'

export type InboundParts = {
  /** Canonical: the only addresses that are ever dialled from here. */
  readonly podIps: readonly string[]
  readonly authorizer: Authorizer
  readonly observer: Observer
  readonly answerStartupProbe: (connection: Captured) => void
}

export type Inbound = {
  /** One CONNECT of an identified peer. */
  tunnelled(request: TunnelRequest): Promise<void>
  /** One plaintext connection that was redirected to us. */
  captured(connection: Captured): Promise<void>
}

/** A connection that has been accepted, whichever way it came; exactly one of `proceed` and `refuse` is called. */
type Arrival = {
  readonly record: ConnectionRecord
  readonly caller: Caller
  /** @throws PosternError PSTN_TUNNEL_MALFORMED */
  destination(): Destination
  proceed(): ByteStream
  refuse(refusal: Refusal): void
}

export function createInbound(parts: InboundParts): Inbound {
  const { podIps, observer, answerStartupProbe } = parts
  return {
    tunnelled: request => {
      const { identity, address, serial } = request.peer
      return admit(parts, {
        record: observer.start('inbound', { address, identity, serial }, 'tunnel'),
        caller: { identity, address },
        destination: () => parseAuthority(request.authority),
        proceed: () => request.accept(),
        refuse: ({ code }) => request.refuse(statusOf(code), code),
      })
    },
    captured: async connection => {
      const { socket, destination, peer } = connection
      if (isStartupProbe(destination, podIps)) return answerStartupProbe(connection)
      socket.on('error', () => {})
      socket.setKeepAlive(KEEP_ALIVE.keepAlive, KEEP_ALIVE.keepAliveInitialDelay)
      return admit(parts, {
        record: observer.start('inbound', { address: peer.address }, 'plaintext'),
        caller: { address: peer.address },
        destination: () => destination,
        proceed: () => new SocketStream(socket),
        refuse: () => socket.resetAndDestroy(),
      })
    },
  }
}

/** The caller is answered only after the application has accepted. */
async function admit({ podIps, authorizer, observer }: InboundParts, arrival: Arrival): Promise<void> {
  const { record, caller } = arrival
  const refuse = (refusal: Refusal) => {
    arrival.refuse(refusal)
    observer.refused(record, refusal)
  }
  try {
    const destination = arrival.destination()
    record.destination = destination
    checkInboundDestination(destination, podIps)

    using grant = authorizer.authorizeConnection(caller, destination.port)
    if (!grant.decision.allow) return refuse(grant.decision)
    if (grant.protocol !== undefined)
      return refuse({ code: 'PSTN_POLICY_UNSUPPORTED', reason: `nothing here reads ${grant.protocol} yet` })

    const application = await dial(destination, grant)
    observer.opened(record)
    const { signal } = grant
    const outcome = await splice(arrival.proceed(), application, { signal, traffic: record.traffic })
    observer.closed(record, outcome, signal.reason)
  } catch (thrown) {
    refuse(refusalOf(asPosternError(thrown, 'PSTN_APP_UNREACHABLE')))
  }
}

/** 400: not a request to this pod. 403: not allowed. 503: allowed, but not now. */
function statusOf(code: Refusal['code']): 400 | 403 | 503 {
  switch (code) {
    case 'PSTN_TUNNEL_MALFORMED':
    case 'PSTN_DESTINATION_NOT_LOCAL':
    case 'PSTN_OWN_PORT':
      return 400
    case 'PSTN_POLICY_DENIED':
    case 'PSTN_POLICY_UNSUPPORTED':
      return 403
    default:
      return 503
  }
}

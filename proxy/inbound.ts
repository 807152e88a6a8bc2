// What reaches this pod, from accept to its end: through the tunnel from identified peers, or captured, in plaintext or in
// TLS that is terminated here.
// Read this file and outbound.ts first; each stage is a folder of its name.
import type { EndSignal } from '../shared/ending.ts'
import { asPosternError } from '../shared/errors.ts'
import type { Caller, TlsMode } from '../shared/policy/model.ts'
import type { Protocol } from '../shared/protocol.ts'
import { checkInboundDestination, isStartupProbe, parseAuthority } from './accept/guards.ts'
import type { Captured } from './accept/listeners.ts'
import type { Destination } from './accept/original-destination.ts'
import type { Authorizer } from './authorize/authorizer.ts'
import type { Grant } from './authorize/grants.ts'
import { dial } from './forward/dial.ts'
import { splice } from './forward/splice.ts'
import { forwardedClientCert } from './gate/client-cert.ts'
import { gateHttp1 } from './gate/http1/gate.ts'
import { gateHttp2 } from './gate/http2/gate.ts'
import type { Gate, Gated, RequestAuthenticator } from './gate/interface.ts'
import { type Observer, type Refusal, refusalOf } from './observe/access-log.ts'
import type { ConnectionRecord } from './observe/connection-record.ts'
import type { Terminator } from './terminate/terminator.ts'
import type { ByteStream } from './tunnel/byte-stream.ts'
import type { Peer, TunnelRequest } from './tunnel/interface.ts'

export type InboundParts = {
  /** Canonical: the only addresses that are ever dialled from here. */
  readonly podIps: readonly string[]
  /** This pod's own SPIFFE ID. */
  readonly identity: string
  readonly authorizer: Authorizer
  readonly terminator: Pick<Terminator, 'accept'>
  /** How TLS is terminated on a port for what comes without a tunnel; undefined where it is not. */
  readonly tlsMode: (port: number) => TlsMode | undefined
  /** What a port is declared to speak; undefined: opaque bytes. */
  readonly protocolOf: (port: number) => Protocol | undefined
  readonly authenticator?: RequestAuthenticator
  readonly observer: Observer
  /** Aborts when the sidecar begins to drain. */
  readonly draining: EndSignal
  /** Monotonic milliseconds. */
  readonly now: () => number
  readonly answerStartupProbe: (connection: Captured) => void
}

export type Inbound = {
  /** One CONNECT of an identified peer. */
  tunnelled(request: TunnelRequest): Promise<void>
  /** One connection that was redirected to us: plaintext, or TLS on a port where it is terminated. */
  captured(connection: Captured): Promise<void>
}

/** A connection that has been accepted, whichever way it came; exactly one of `proceed` and `refuse` is called. */
type Arrival = {
  readonly record: ConnectionRecord
  readonly caller: Caller
  /** What an application that speaks HTTP is told of who calls. */
  readonly clientCert?: () => string
  /** Ends it before its time, beside what was decided on it. */
  readonly ending?: EndSignal
  /** @throws PosternError PSTN_TUNNEL_MALFORMED */
  destination(): Destination
  proceed(): ByteStream
  refuse(refusal: Refusal): void
}

export function createInbound(parts: InboundParts): Inbound {
  const { podIps, identity: by, observer, answerStartupProbe } = parts
  return {
    tunnelled: request => {
      const { identity, address, serial } = request.peer
      return admit(parts, {
        record: observer.start('inbound', { address, identity, serial }, 'tunnel'),
        caller: request.peer,
        clientCert: clientCertOf(by, request.peer),
        destination: () => parseAuthority(request.authority),
        proceed: () => request.accept(),
        refuse: ({ code }) => request.refuse(statusOf(code), code),
      })
    },
    captured: async connection => {
      const { stream, destination, peer } = connection
      if (isStartupProbe(destination, podIps)) return answerStartupProbe(connection)
      stream.keepAlive()
      const mode = parts.tlsMode(destination.port)
      if (mode) return encrypted(parts, connection, mode)
      return admit(parts, {
        record: observer.start('inbound', { address: peer.address }, 'plaintext'),
        caller: { address: peer.address },
        destination: () => destination,
        proceed: () => stream,
        refuse: () => stream.reset(),
      })
    },
  }
}

/** Decrypted, it goes the way of all else: the caller is who its certificate says, or encrypted and unknown. */
async function encrypted(
  parts: InboundParts,
  { stream: carrier, destination, peer: { address } }: Captured,
  mode: TlsMode,
): Promise<void> {
  const { observer, terminator, protocolOf, identity: by } = parts
  const via = mode === 'mutual' ? 'tls' : 'tls-anonymous'
  const { port } = destination
  try {
    const accepted = await terminator.accept({
      stream: carrier,
      address,
      port,
      mode,
      protocol: protocolOf(port),
    })
    const { stream, peer, signal, release } = accepted
    try {
      const source = peer ? { address, identity: peer.identity, serial: peer.serial } : { address }
      await admit(parts, {
        record: observer.start('inbound', source, via),
        caller: { ...(peer ?? { address }), isEncrypted: true },
        ...(peer && { clientCert: clientCertOf(by, peer) }),
        ending: signal,
        destination: () => destination,
        proceed: () => stream,
        refuse: () => stream.reset(),
      })
    } finally {
      release()
    }
  } catch (thrown) {
    const record = observer.start('inbound', { address }, via)
    record.destination = destination
    observer.refused(record, refusalOf(asPosternError(thrown, 'PSTN_TLS_FAILED')))
  }
}

const clientCertOf =
  (by: string, { certificateHash: hash, identity: uri }: Peer) =>
  () =>
    forwardedClientCert({ by, hash, uri })

/** The caller is answered only after the application has accepted. */
async function admit(parts: InboundParts, arrival: Arrival): Promise<void> {
  const { podIps, authorizer, observer } = parts
  const { record, caller } = arrival
  const refuse = (refusal: Refusal) => {
    arrival.refuse(refusal)
    observer.refused(record, refusal)
  }
  try {
    const destination = arrival.destination()
    record.destination = destination
    checkInboundDestination(destination, podIps)

    using grant = authorizer.authorizeConnection(caller, destination)
    if (grant.observed) observer.observed(record, grant.observed)
    if (!grant.decision.allow) return refuse(grant.decision)
    if (arrival.ending) endWith(arrival.ending, grant)

    const application = await dial(destination, grant)
    observer.opened(record)
    const { outcome, reason } = await carry(parts, arrival, application, destination, grant)
    observer.closed(record, outcome, reason)
  } catch (thrown) {
    refuse(refusalOf(asPosternError(thrown, 'PSTN_APP_UNREACHABLE')))
  }
}

function endWith(ending: EndSignal, grant: Grant): void {
  const end = () => grant.revoke(asPosternError(ending.reason, 'PSTN_PEER_UNTRUSTED'))
  if (ending.aborted) end()
  else ending.addEventListener('abort', end, { once: true })
}

const GATES: { readonly [P in Protocol]: Gate } = { http1: gateHttp1, http2: gateHttp2 }

/** Opaque bytes were decided on as a whole; of a declared port each request is. */
async function carry(
  { authorizer, authenticator, observer, draining, now }: InboundParts,
  { record, caller, clientCert, proceed }: Arrival,
  application: ByteStream,
  destination: Destination,
  { protocol, signal }: Grant,
): Promise<Gated> {
  const { traffic } = record
  if (protocol === undefined) {
    const outcome = await splice(proceed(), application, { signal, traffic })
    return { outcome, reason: signal.reason }
  }
  record.protocol = protocol
  return GATES[protocol](proceed(), application, {
    signal,
    draining,
    traffic,
    forwardedClientCert: clientCert?.(),
    now,
    authorize: (request, onRevoked) => {
      const granted = authorizer.authorizeRequest(caller, destination, request, onRevoked)
      if (granted.observed) observer.observed(record, granted.observed, request)
      return granted
    },
    ...(authenticator && { authenticator }),
    readsHeaders: authorizer.readsHeaders,
    onRequest: outcome => observer.request(record, outcome),
  })
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

// Two sidecars' data paths on loopback, joined as app.ts joins them, without what keeps them supplied: the application's
// socket, outbound capture, tunnel, inbound, and the application that is called.
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import { pino } from 'pino'
import { bind, type CaptureListener } from '../../proxy/accept/listeners.ts'
import type { Destination } from '../../proxy/accept/original-destination.ts'
import { answerStartupProbe } from '../../proxy/admin/startup.ts'
import { createAuthorizer } from '../../proxy/authorize/authorizer.ts'
import { identifyCallers } from '../../proxy/identify/tls-callers.ts'
import { createInbound } from '../../proxy/inbound.ts'
import { createObserver, type Observer } from '../../proxy/observe/access-log.ts'
import { createProxyMetrics } from '../../proxy/observe/metrics.ts'
import { createOriginator } from '../../proxy/originate/originator.ts'
import { outbound } from '../../proxy/outbound.ts'
import { createDirectory } from '../../proxy/resolve/directory.ts'
import { createOutside } from '../../proxy/resolve/outside.ts'
import { createResolver } from '../../proxy/resolve/resolver.ts'
import { createServices } from '../../proxy/resolve/services.ts'
import { createTerminator, type Terminator } from '../../proxy/terminate/terminator.ts'
import { systemClock } from '../../shared/clock.ts'
import type { AddressEntry, State } from '../../shared/control/messages.ts'
import { Ending } from '../../shared/ending.ts'
import type { PartnerClients } from '../../shared/federation/model.ts'
import { NO_PARTNERS } from '../../shared/federation/partners.ts'
import { live, type Settable } from '../../shared/live.ts'
import { createRegistry, type Registry } from '../../shared/metrics.ts'
import { type CompiledPolicy, compile } from '../../shared/policy/compile.ts'
import type { AuthorizationPolicy, PolicySet } from '../../shared/policy/model.ts'
import { NO_PROTOCOLS, type Protocols, protocolOf } from '../../shared/protocol.ts'
import { NOBODY_REVOKED, type RevocationCheck, revocationCheck } from '../../shared/revocation.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import { SERVER_ID, SERVER_POD, TRUST_DOMAIN, type TunnelPair, tunnelPair } from './tunnel-pair.ts'

export type LogLine = Readonly<Record<string, unknown>>

export type Side = {
  readonly observer: Observer
  readonly metrics: Registry
  /** Lines of the access and decision logs so far. */
  readonly lines: LogLine[]
  /** The next line with this message that has not been waited for. */
  next(msg: 'connection' | 'decision'): Promise<LogLine>
}

export type DataPath = AsyncDisposable & {
  readonly pair: TunnelPair
  /** The called sidecar's, and what it goes by. */
  readonly terminator: Terminator
  readonly revoked: Settable<RevocationCheck>
  readonly clients: Settable<readonly PartnerClients[]>
  readonly client: Side
  readonly server: Side
  readonly policy: Settable<CompiledPolicy | undefined>
  /** What the called application's ports are declared to speak. */
  readonly protocols: Settable<Protocols>
  /** A connection of the client's application, dialled at the called application's address. */
  dial(): Socket
  /** A connection to the called pod that does not come from a sidecar. */
  dialPlain(): Socket
  /** The called sidecar begins to drain; resolves when its last connection has ended. */
  drain(): Promise<unknown>
  /** What captured connections were dialled at, instead of the application. */
  readonly destination: { outbound?: Destination; inbound?: Destination }
}

export const policySet = (policies: readonly AuthorizationPolicy[] = [], strict = false): PolicySet => ({
  mode: { inbound: strict ? 'strict' : 'permissive', ports: {} },
  policies,
  defaultAction: 'allow',
})

export const compiled = (policies?: readonly AuthorizationPolicy[], strict?: boolean): CompiledPolicy =>
  compile(policySet(policies, strict), { trustDomain: TRUST_DOMAIN })

export async function dataPath(application: Server): Promise<DataPath> {
  const stack = new AsyncDisposableStack()
  const app = await listening(application, stack)
  const [client, server] = [side(), side()]
  const policy = live<CompiledPolicy | undefined>(compiled())
  const protocols = live<Protocols>(NO_PROTOCOLS)
  const authorizer = stack.use(createAuthorizer(policy, protocols))
  const draining = new Ending()
  const pair = stack.use(await tunnelPair({ onRequest: request => void inbound.tunnelled(request) }))
  const revoked = live(revocationCheck(NOBODY_REVOKED))
  const { bundle } = pair.authority
  const trust = live<TrustBundle | undefined>(bundle)
  const clients = live<readonly PartnerClients[]>([])
  const terminator = createTerminator({
    tls: pair.serverTls,
    identify: identifyCallers({
      ...{ trustDomain: TRUST_DOMAIN, trust, revoked, clock: systemClock },
      clientsAt: port => clients.get().filter(({ ports }) => ports.includes(port)),
    }),
    trustDomain: TRUST_DOMAIN,
    clients,
    clock: systemClock,
    onLimit: limit => pair.limits.push(limit),
  })
  const inbound = createInbound({
    podIps: [app.address],
    terminator,
    tlsMode: port => policy.get()?.mode.tls?.[port],
    protocolOf: port => protocolOf(protocols.get(), port),
    identity: SERVER_ID,
    now: systemClock.monotonic,
    authorizer,
    draining,
    observer: server.observer,
    answerStartupProbe: ({ stream }) => answerStartupProbe(stream, '/', () => true),
  })

  const directory = createDirectory(systemClock)
  const answer = (address: string): AddressEntry =>
    address === app.address ? { kind: 'mesh', address, pod: SERVER_POD } : { kind: 'unknown', address }
  directory.onWanted(() => directory.receive(directory.wanted().map(answer)))
  const state = live<State | undefined>({
    kind: 'state',
    version: 1,
    policy: policySet(),
    trust: [],
    prefixes: ['127.0.0.0/8'],
  })
  const outside = createOutside(state, 'auto', live(NO_PARTNERS))
  const services = createServices({
    outside,
    now: systemClock.monotonic,
    random: Math.random,
    observe: () => {},
  })
  const resolver = createResolver({
    state,
    directory,
    services,
    outside,
  })
  const shutdown = new AbortController()
  const outboundParts = {
    podIps: ['127.0.0.2'],
    resolver,
    dialer: pair.dialer,
    originator: createOriginator({ tls: pair.clientTls, clock: systemClock }),
    outside,
    observer: client.observer,
    metrics: createProxyMetrics(createRegistry()),
    shutdown: shutdown.signal,
  }

  const destination: DataPath['destination'] = {}
  const capture = async (
    which: 'outbound' | 'inbound',
    onConnection: Parameters<typeof bind>[2]['onConnection'],
  ) =>
    stack.use(
      await bind('127.0.0.1', 0, {
        originalDestination: () => destination[which] ?? app,
        maxConnections: 1000,
        onConnection,
        onRefused: () => {},
      }),
    )
  const outboundListener = await capture('outbound', connection => void outbound(connection, outboundParts))
  const inboundListener = await capture('inbound', connection => void inbound.captured(connection))
  return {
    pair,
    terminator,
    revoked,
    clients,
    client,
    server,
    policy,
    protocols,
    destination,
    dial: () => dialListener(outboundListener),
    dialPlain: () => dialListener(inboundListener),
    drain: () => {
      const drained = Promise.all([inboundListener.drain(), pair.server.drain()])
      draining.abort(undefined)
      return drained
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

async function listening(application: Server, stack: AsyncDisposableStack): Promise<Destination> {
  const sockets = new Set<Socket>()
  application.on('connection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => {})
  })
  application.listen(0, '127.0.0.1')
  await once(application, 'listening')
  stack.defer(async () => {
    const closed = once(application, 'close')
    application.close()
    for (const socket of sockets) socket.destroy()
    await closed
  })
  const bound = application.address()
  if (bound === null || typeof bound === 'string') throw new Error('a TCP server has an address')
  return { address: bound.address, port: bound.port }
}

/** Not awaited: a refusal may come before the connection is reported. */
function dialListener({ bound: [listener] }: CaptureListener): Socket {
  const { address = '', port = 0 } = listener ?? {}
  return connect({ host: address, port, allowHalfOpen: true }).on('error', () => {})
}

function side(): Side {
  const lines: LogLine[] = []
  const consumed = { connection: 0, decision: 0 }
  const arrived = live(0)
  const output = new Writable({
    write: (chunk, _encoding, done) => {
      lines.push(JSON.parse(String(chunk)))
      arrived.set(lines.length)
      done()
    },
  })
  const registry = createRegistry()
  const observer = createObserver(pino(output), createProxyMetrics(registry), systemClock)
  return {
    observer,
    metrics: registry,
    lines,
    next: msg => {
      const number = consumed[msg]++
      const { promise, resolve } = Promise.withResolvers<LogLine>()
      const look = () => {
        const line = lines.filter(candidate => candidate.msg === msg)[number]
        if (!line) return
        stop()
        resolve(line)
      }
      const stop = arrived.subscribe(look)
      look()
      return promise
    },
  }
}

/** An application that accepts with `handler`, half-open. */
export const applicationServer = (handler: (socket: Socket) => void): Server =>
  createServer({ allowHalfOpen: true }, handler)

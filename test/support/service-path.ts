// One sidecar's way out to a Service on loopback: the application's socket, outbound capture, balancing and tunnels are
// real; each pod is a real tunnel listener at an address of its own that plays its application itself.
import { connect, type Socket } from 'node:net'
import { pino } from 'pino'
import { bind } from '../../proxy/accept/listeners.ts'
import { identifyPeers, tunnelTls } from '../../proxy/identify/tunnel-tls.ts'
import { createObserver } from '../../proxy/observe/access-log.ts'
import { observeEndpoints } from '../../proxy/observe/events.ts'
import { createProxyMetrics } from '../../proxy/observe/metrics.ts'
import { createOriginator } from '../../proxy/originate/originator.ts'
import { outbound } from '../../proxy/outbound.ts'
import { createDirectory } from '../../proxy/resolve/directory.ts'
import { createOutside } from '../../proxy/resolve/outside.ts'
import { createResolver } from '../../proxy/resolve/resolver.ts'
import { createServices } from '../../proxy/resolve/services.ts'
import { createTunnelDialer } from '../../proxy/tunnel/dialer.ts'
import type { TunnelRequest } from '../../proxy/tunnel/interface.ts'
import { listenTunnel } from '../../proxy/tunnel/server.ts'
import { systemClock } from '../../shared/clock.ts'
import type { AddressEntry, MeshPod, State } from '../../shared/control/messages.ts'
import { NO_PARTNERS } from '../../shared/federation/partners.ts'
import { live } from '../../shared/live.ts'
import { createRegistry } from '../../shared/metrics.ts'
import { type TestAuthority, testAuthority } from './certificates.ts'
import { DuplexOf } from './duplex-of.ts'
import { trustedOf } from './tunnel-pair.ts'

export const TRUST_DOMAIN = 'cluster.local'
const CLIENT = `spiffe://${TRUST_DOMAIN}/ns/shop/sa/client`
export const SERVICE = { address: '127.96.0.1', port: 80 }

export type Behaviour =
  /** Says its name, then echoes. */
  | 'serves'
  /** Its application does not listen. */
  | 'refuses'
  | 'denies'
  /** Never answers. */
  | 'hangs'

export type ServicePod = {
  readonly address: string
  readonly mesh: MeshPod
  behaviour: Behaviour
  /** CONNECTs that reached it. */
  requests: number
  /** Ends as a pod does that lets its last streams end. */
  drain(): Promise<void>
  /** Ends as a node does: everything at once. */
  kill(): Promise<void>
}

export type LogLine = {
  readonly msg: string
  readonly destination?: { readonly endpoint?: string; readonly retries?: number }
} & Readonly<Record<string, unknown>>

export type ServicePath = AsyncDisposable & {
  /** Starts a pod at 127.0.1.`number`, which no Service leads to yet. */
  startPod(
    number: number,
    parts?: { readonly uid?: string; readonly serviceAccount?: string },
  ): Promise<ServicePod>
  /** What the directory says of the Service from now on. */
  setEndpoints(...pods: readonly ServicePod[]): void
  /** A connection of the application to the Service, as the kernel has redirected it. */
  dial(): Socket
  readonly lines: readonly LogLine[]
  /** The value of a metric's series, summed. */
  metric(name: string): number
}

export async function servicePath(): Promise<ServicePath> {
  const stack = new AsyncDisposableStack()
  const authority = await testAuthority(TRUST_DOMAIN)
  const identify = identifyPeers(trustedOf(authority), systemClock)
  const lines: LogLine[] = []
  const log = pino({}, { write: line => lines.push(JSON.parse(line)) })
  const registry = createRegistry()
  const metrics = createProxyMetrics(registry)

  const directory = createDirectory(systemClock)
  let entry: AddressEntry = service([])
  directory.onWanted(() => directory.receive([entry]))
  const state = live<State | undefined>(STATE)
  const outside = createOutside(state, 'auto', live(NO_PARTNERS))
  const services = createServices({
    outside,
    now: systemClock.monotonic,
    random: Math.random,
    observe: observeEndpoints(log, metrics),
  })
  const resolver = createResolver({ state, directory, services, outside })
  const ports = await startTunnels(authority, identify, stack)
  const own = (await authority.issue({ identity: CLIENT })).credential(1)
  const tls = live(tunnelTls(own, authority.bundle))
  const dialer = stack.use(
    createTunnelDialer({
      tls,
      identify,
      clock: systemClock,
      port: ports.port,
    }),
  )
  const parts = {
    podIps: ['127.0.0.2'],
    resolver,
    dialer,
    originator: createOriginator({ tls, clock: systemClock }),
    outside,
    observer: createObserver(log, metrics, systemClock),
    metrics,
    shutdown: new AbortController().signal,
  }
  const listener = stack.use(
    await bind('127.0.0.1', 0, {
      originalDestination: () => SERVICE,
      maxConnections: 10_000,
      onConnection: connection => void outbound(connection, parts),
      onRefused: () => {},
    }),
  )
  return {
    startPod: ports.startPod,
    setEndpoints: (...pods) => {
      entry = service(pods)
      directory.receive([entry])
    },
    dial: () => {
      const { address = '', port = 0 } = listener.bound[0] ?? {}
      return connect({ host: address, port, allowHalfOpen: true }).on('error', () => {})
    },
    lines,
    metric: name =>
      registry
        .render()
        .split('\n')
        .filter(line => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

const service = (pods: readonly ServicePod[]): AddressEntry => ({
  kind: 'service',
  address: SERVICE.address,
  service: 'shop/web',
  ports: [
    { port: SERVICE.port, endpoints: pods.map(({ address, mesh }) => ({ address, port: 8080, mesh })) },
  ],
})

const STATE: State = {
  kind: 'state',
  version: 1,
  policy: { mode: { inbound: 'permissive', ports: {} }, policies: [], defaultAction: 'allow' },
  trust: [],
  prefixes: ['127.0.0.0/8'],
}

/** Every pod's tunnel has the same port. */
async function startTunnels(
  authority: TestAuthority,
  identify: Parameters<typeof listenTunnel>[0]['identify'],
  stack: AsyncDisposableStack,
): Promise<Pick<ServicePath, 'startPod'> & { readonly port: number }> {
  const listen = async (
    host: string,
    port: number,
    identity: string,
    onRequest: (r: TunnelRequest) => void,
  ) =>
    listenTunnel({
      host,
      port,
      tls: live(tunnelTls((await authority.issue({ identity })).credential(1), authority.bundle)),
      identify,
      clock: systemClock,
      onRequest,
      onRefused: () => {},
    })
  const { port } = stack.use(await listen('127.0.1.254', 0, `spiffe://${TRUST_DOMAIN}/ns/x/sa/x`, () => {}))
  return {
    port,
    startPod: async (number, { uid = `uid-${number}`, serviceAccount = 'web' } = {}) => {
      const address = `127.0.1.${number}`
      const identity = `spiffe://${TRUST_DOMAIN}/ns/shop/sa/${serviceAccount}`
      const pod: ServicePod = {
        address,
        mesh: { uid, name: uid, namespace: 'shop', identity, skipInboundPorts: [] },
        behaviour: 'serves',
        requests: 0,
        drain: () => tunnel.drain(),
        kill: async () => tunnel[Symbol.asyncDispose](),
      }
      const tunnel = await listen(address, port, identity, request => {
        pod.requests += 1
        answer(request, pod)
      })
      stack.defer(pod.kill)
      return pod
    },
  }
}

function answer(request: TunnelRequest, { behaviour, mesh }: ServicePod): void {
  if (behaviour === 'refuses') request.refuse(503, 'PSTN_APP_UNREACHABLE')
  if (behaviour === 'denies') request.refuse(403, 'PSTN_POLICY_DENIED')
  if (behaviour !== 'serves') return
  const stream = new DuplexOf(request.accept())
  stream.on('error', () => {})
  stream.write(`${mesh.uid}\n`)
  stream.pipe(stream)
}

/** The name of the pod that a connection reached; undefined if it was refused. */
export function reached(socket: Socket): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>()
  socket.once('data', chunk => resolve(String(chunk).trim()))
  socket.once('close', () => resolve(undefined))
  return promise
}

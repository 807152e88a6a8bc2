// Opens one route: through the tunnel to a pod with a sidecar, with TLS to a declared host outside the mesh, or in plaintext
// to what has neither. What it gives says by itself when it must end.
import { Ending, type EndSignal } from '../shared/ending.ts'
import { dial } from './forward/dial.ts'
import type { ConnectionRecord } from './observe/connection-record.ts'
import type { Originator } from './originate/originator.ts'
import type { Outside } from './resolve/outside.ts'
import type { Route } from './resolve/route.ts'
import type { ByteStream } from './tunnel/byte-stream.ts'
import type { TunnelDialer } from './tunnel/interface.ts'

export type ReachParts = {
  readonly dialer: TunnelDialer
  readonly originator: Originator
  readonly outside: Pick<Outside, 'hold'>
  /** Ends every connection: drain is over. */
  readonly shutdown: EndSignal
}

/** To be disposed of when its stream is over. */
export type Reached = Disposable & {
  readonly stream: ByteStream
  readonly over: EndSignal
}

/** `signal` is the attempt's. Says in the record who is reached, and how. */
export async function reach(
  route: Route,
  record: ConnectionRecord,
  parts: ReachParts,
  signal: EndSignal,
): Promise<Reached> {
  if (route.kind !== 'tunnel') return reachOutside(route, record, parts, signal)
  const { address, expected, authority } = route.target
  record.via = 'tunnel'
  const whom =
    'identities' in expected
      ? { trustDomain: expected.trustDomain }
      : { pod: `${expected.namespace}/${expected.name}` }
  record.remote = whom
  const headers = { forwarded: forwardedFor(record.source.address) }
  const { stream, peer } = await parts.dialer.open({ address, expected, authority, headers }, signal)
  record.remote = { ...whom, identity: peer.identity, serial: peer.serial }
  return { stream, over: parts.shutdown, [Symbol.dispose]: () => undefined }
}

type WithoutMesh = Exclude<Route, { kind: 'tunnel' }>

async function reachOutside(
  route: WithoutMesh,
  record: ConnectionRecord,
  { originator, outside, shutdown }: ReachParts,
  signal: EndSignal,
): Promise<Reached> {
  const host = route.kind === 'originate' ? route.host : undefined
  record.via = host ? 'tls' : 'plaintext'
  record.remote = host && { host: host.host }
  using stack = new DisposableStack()
  const held = stack.use(outside.hold(record.destination ?? route, route, host))
  const over = new Ending()
  for (const signal of [shutdown, held.signal]) follow(over, signal, stack)
  const stream =
    route.kind === 'originate'
      ? await originator.open(route, signal, refused => over.abort(refused))
      : await dial(route, { signal, code: 'PSTN_DESTINATION_UNREACHABLE', isRemote: true })
  const kept = stack.move()
  return { stream, over, [Symbol.dispose]: () => kept.dispose() }
}

function follow(over: Ending, signal: EndSignal, stack: DisposableStack): void {
  const end = () => over.abort(signal.reason)
  signal.addEventListener('abort', end, { once: true })
  stack.defer(() => signal.removeEventListener('abort', end))
  if (signal.aborted) end()
}

/** RFC 7239, section 6: an IPv6 address is quoted and in brackets. */
const forwardedFor = (address: string): string =>
  address.includes(':') ? `for="[${address}]"` : `for=${address}`

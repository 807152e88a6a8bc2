// The proof before the application starts that outbound capture works: dial an address that exists nowhere
// (RFC 5737, RFC 3849) and see the connection arrive at our own listener with that original destination.
// The inbound rule is proved by the kubelet, whose start-up probe is answered only through the redirect.
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'
import { authorityOf, cidrsContain, parseCidr } from '../../shared/addresses.ts'
import { PosternError } from '../../shared/errors.ts'
import { listenOutbound } from '../accept/listeners.ts'
import { type Destination, kernelDestination } from '../accept/original-destination.ts'
import type { RuleOptions } from './rules.ts'

export type Proof = {
  readonly target: string
  /** `no-route`: this pod cannot send in that family at all, so there is nothing to capture. */
  readonly result: 'captured' | 'no-route'
}

const TIMEOUT_MS = 2_000
const NOWHERE = [
  ['192.0.2.1', '198.51.100.1', '203.0.113.1'],
  ['2001:db8::1', '2001:db8:ffff::1'],
]

/** One address a family that the options do not skip; none where they skip the whole family. Pure. */
export function proofTargets(
  options: Pick<RuleOptions, 'skipOutboundPorts' | 'skipOutboundCidrs'>,
): Destination[] {
  const isSkipped = cidrsContain(options.skipOutboundCidrs.map(parseCidr).filter(cidr => cidr !== undefined))
  let port = 1
  while (options.skipOutboundPorts.includes(port)) port += 1
  return NOWHERE.flatMap(candidates => {
    const address = candidates.find(candidate => !isSkipped(candidate))
    return address === undefined ? [] : [{ address, port }]
  })
}

/** @throws PosternError PSTN_INTERCEPTION if a dial left the pod, or there is no route in any family. */
export async function proveOutbound(targets: readonly Destination[]): Promise<Proof[]> {
  const seen = new Set<string>()
  await using _listener = await listenOutbound({
    originalDestination: kernelDestination(),
    maxConnections: 16,
    onConnection: ({ stream, destination }) => {
      seen.add(authorityOf(destination.address, destination.port))
      stream.end()
    },
    onRefused: () => {},
  })
  const proofs = await Promise.all(targets.map(target => prove(target, seen)))
  if (targets.length === 0 || proofs.some(proof => proof.result === 'captured')) return proofs
  throw new PosternError('PSTN_INTERCEPTION', 'this pod has no route in any address family')
}

async function prove(destination: Destination, seen: ReadonlySet<string>): Promise<Proof> {
  const target = authorityOf(destination.address, destination.port)
  if (!(await hasRoute(destination))) return { target, result: 'no-route' }
  const error = await dial(destination)
  if (error === undefined && seen.has(target)) return { target, result: 'captured' }
  const why = error instanceof Error ? error.message : 'something else answered'
  throw new PosternError(
    'PSTN_INTERCEPTION',
    `a dial of ${target} did not arrive at our own listener: ${why}`,
  )
}

/** Asks the routing table by connecting a datagram socket, which sends nothing; a network's answer cannot fool it. */
async function hasRoute({ address, port }: Destination): Promise<boolean> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  try {
    const connected = once(socket, 'connect')
    socket.connect(port, address)
    await connected
    return true
  } catch {
    return false
  } finally {
    socket.close()
  }
}

/** Resolves once the other side has ended the connection, so that `seen` is complete. */
async function dial({ address, port }: Destination): Promise<unknown> {
  const socket = connect({ host: address, port })
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)))
  try {
    await once(socket.resume(), 'end')
    return undefined
  } catch (thrown) {
    return thrown
  } finally {
    socket.destroy()
  }
}

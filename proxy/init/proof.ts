// The proof before the application starts that outbound capture works: dial an address that exists nowhere
// (RFC 5737, RFC 3849) and see the connection arrive at our own listener with that original destination.
// The inbound rule is proved by the kubelet, whose start-up probe is answered only through the redirect.
import { once } from 'node:events'
import { BlockList, connect, isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { authorityOf } from '../../shared/addresses.ts'
import { PosternError } from '../../shared/errors.ts'
import { type CaptureListener, listenOutbound } from '../accept/listeners.ts'
import { type Destination, kernelDestination } from '../accept/original-destination.ts'
import type { RuleOptions } from './rules.ts'

export type Proof = {
  readonly target: string
  /** `no-route`: this pod cannot send in that family at all, so there is nothing to capture. */
  readonly result: 'captured' | 'no-route'
}

const TIMEOUT_MS = 2_000
const NOWHERE_IPV4 = ['192.0.2.1', '198.51.100.1', '203.0.113.1']
const NOWHERE_IPV6 = ['2001:db8::1', '2001:db8:ffff::1']

/** One address a family that the options do not skip; none where they skip the whole family. Pure. */
export function proofTargets(
  options: Pick<RuleOptions, 'skipOutboundPorts' | 'skipOutboundCidrs'>,
): Destination[] {
  const skipped = new BlockList()
  for (const cidr of options.skipOutboundCidrs) {
    const [address = '', bits] = cidr.split('/')
    skipped.addSubnet(address, Number(bits), familyOf(address))
  }
  let port = 1
  while (options.skipOutboundPorts.includes(port)) port += 1
  return [NOWHERE_IPV4, NOWHERE_IPV6].flatMap(candidates => {
    const address = candidates.find(candidate => !skipped.check(candidate, familyOf(candidate)))
    return address === undefined ? [] : [{ address, port }]
  })
}

/** @throws PosternError PSTN_INTERCEPTION if a dial left the pod, or every family is without a route. */
export async function proveOutbound(targets: readonly Destination[]): Promise<Proof[]> {
  const seen = new Set<string>()
  await using _listener: CaptureListener = await listenOutbound({
    originalDestination: kernelDestination(),
    maxConnections: 16,
    onConnection: ({ socket, destination }) => {
      seen.add(authorityOf(destination.address, destination.port))
      socket.on('error', () => {}).end()
    },
    onRefused: () => {},
  })
  const proofs = await Promise.all(targets.map(target => prove(target, seen)))
  if (targets.length === 0 || proofs.some(proof => proof.result === 'captured')) return proofs
  throw new PosternError('PSTN_INTERCEPTION', 'this pod has no route in any address family')
}

async function prove({ address, port }: Destination, seen: ReadonlySet<string>): Promise<Proof> {
  const target = authorityOf(address, port)
  const outcome = await dial(address, port)
  if (outcome === 'no-route') return { target, result: 'no-route' }
  if (outcome === 'connected' && seen.has(target)) return { target, result: 'captured' }
  throw new PosternError(
    'PSTN_INTERCEPTION',
    `a dial of ${target} did not arrive at our own listener (${outcome})`,
  )
}

const NO_ROUTE = ['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']

/** Resolves once our listener has ended the connection, so that `seen` is complete. */
async function dial(host: string, port: number): Promise<string> {
  const socket = connect({ host, port })
  socket.resume()
  try {
    const ended = once(socket, 'end').then(() => 'connected')
    return await Promise.race([ended, delay(TIMEOUT_MS, `no answer within ${TIMEOUT_MS} ms`)])
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : String(thrown)
    return NO_ROUTE.includes(code) ? 'no-route' : code
  } finally {
    socket.destroy()
  }
}

const familyOf = (address: string): 'ipv4' | 'ipv6' => (isIP(address) === 4 ? 'ipv4' : 'ipv6')

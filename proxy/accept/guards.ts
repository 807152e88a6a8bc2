// What a connection may name as its destination. Postern never relays: inbound goes to this pod's own addresses,
// and nothing leads to its own listeners. A remote dial to 15001 does arrive, on 15006, and these checks refuse it.
import { authorityOf, parseAuthority as parseAddressAndPort } from '../../shared/addresses.ts'
import { PosternError } from '../../shared/errors.ts'
import { isOwnPort, PORTS } from '../../shared/ports.ts'
import type { Destination } from './original-destination.ts'

/** @throws PosternError PSTN_DESTINATION_NOT_LOCAL or PSTN_OWN_PORT. `podIps` are canonical. */
export function checkInboundDestination(destination: Destination, podIps: readonly string[]): void {
  const { address, port } = destination
  if (!podIps.includes(address)) {
    throw new PosternError('PSTN_DESTINATION_NOT_LOCAL', `${address} is not an address of this pod`)
  }
  if (isOwnPort(port))
    throw new PosternError('PSTN_OWN_PORT', `${authorityOf(address, port)} is Postern’s own`)
}

/** A captured connection from the kubelet to the start-up port: the proof that the inbound redirect works. */
export function isStartupProbe(destination: Destination, podIps: readonly string[]): boolean {
  return destination.port === PORTS.startup && podIps.includes(destination.address)
}

/** @throws PosternError PSTN_LOOP: the application dialled our listener, and forwarding would dial it again. */
export function checkOutboundDestination(destination: Destination, podIps: readonly string[]): void {
  const { address, port } = destination
  if (isOwnPort(port) && (isThisHost(address) || podIps.includes(address))) {
    throw new PosternError('PSTN_LOOP', `${authorityOf(address, port)} is this sidecar’s own listener`)
  }
}

/** Parses `:authority` of a CONNECT. @throws PosternError PSTN_TUNNEL_MALFORMED unless a canonical IP and a port. */
export function parseAuthority(text: string): Destination {
  const destination = parseAddressAndPort(text)
  if (destination) return destination
  throw new PosternError(
    'PSTN_TUNNEL_MALFORMED',
    `${JSON.stringify(text.slice(0, 100))} is no canonical IP:port`,
  )
}

/** Loopback and the unspecified addresses, which the kernel dials as loopback. */
const isThisHost = (address: string): boolean =>
  address.startsWith('127.') || ['::1', '::', '0.0.0.0'].includes(address)

// Where a captured connection was going before nftables redirected it. Two implementations of one interface: the
// kernel's (SO_ORIGINAL_DST from conntrack, in a pod) and a fixed table of listeners (demo, standalone).
// This file alone knows node:ffi, which may change with a Node release.
import { dlopen } from 'node:ffi'
import { endianness } from 'node:os'
import { authorityOf, canonicalAddress } from '../../shared/addresses.ts'
import { PosternError } from '../../shared/errors.ts'
import type { Endpoint, TcpStream } from '../tcp/tcp-stream.ts'

/** A canonical IP literal and a port. */
export type Destination = Endpoint

type Accepted = Pick<TcpStream, 'descriptor' | 'local'>

/** @throws PosternError PSTN_INTERCEPTION if it cannot be known. */
export type OriginalDestination = (accepted: Accepted, peer: Destination) => Destination

// linux/in.h, linux/in6.h, linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h
const SOL_IP = 0
const SOL_IPV6 = 41
const SO_ORIGINAL_DST = 80
const AF_INET = 2
const AF_INET6 = 10
const SOCKADDR_IN6_BYTES = 28

/** Asks the kernel; only on Linux, with connection tracking. */
export function kernelDestination(): OriginalDestination {
  const { functions } = dlopen(null, {
    getsockopt: { arguments: ['int32', 'int32', 'int32', 'buffer', 'buffer'], return: 'int32' },
  })
  const sockaddr = Buffer.alloc(SOCKADDR_IN6_BYTES)
  const length = new Uint32Array(1)
  return ({ descriptor }, peer) => {
    if (descriptor === undefined) throw new PosternError('PSTN_INTERCEPTION', 'the connection is closed')
    // An IPv4 connection on a dual-stack listener is an IPv6 socket, but conntrack holds it as IPv4: its peer tells.
    const level = peer.address.includes(':') ? SOL_IPV6 : SOL_IP
    length[0] = SOCKADDR_IN6_BYTES
    if (functions.getsockopt(descriptor, level, SO_ORIGINAL_DST, sockaddr, length) !== 0) {
      throw new PosternError('PSTN_INTERCEPTION', 'the kernel does not know the original destination')
    }
    return parseSockaddr(sockaddr)
  }
}

/** Keys are the listeners' own addresses, as authorityOf writes them. */
export function fixedDestinations(table: ReadonlyMap<string, Destination>): OriginalDestination {
  return ({ local }) => {
    const listener = authorityOf(local?.address ?? '', local?.port ?? 0)
    const destination = table.get(listener)
    if (destination) return destination
    throw new PosternError('PSTN_INTERCEPTION', `no destination is configured for the listener ${listener}`)
  }
}

/** Reads a `struct sockaddr_in` or `sockaddr_in6`: family in the machine's byte order, port and address in network order. */
export function parseSockaddr(bytes: Buffer): Destination {
  const family = endianness() === 'LE' ? bytes.readUInt16LE(0) : bytes.readUInt16BE(0)
  const text = addressText(family, bytes)
  const address = text === undefined ? undefined : canonicalAddress(text)
  if (address === undefined) throw new PosternError('PSTN_INTERCEPTION', `unknown address family ${family}`)
  return { address, port: bytes.readUInt16BE(2) }
}

function addressText(family: number, bytes: Buffer): string | undefined {
  if (family === AF_INET) return `${bytes[4]}.${bytes[5]}.${bytes[6]}.${bytes[7]}`
  if (family !== AF_INET6) return undefined
  const words = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(8 + 2 * index).toString(16))
  return words.join(':')
}

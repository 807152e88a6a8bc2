// One text for each IP address, so that addresses can be compared as strings: RFC 5952 for IPv6 (what Kubernetes
// writes in status.podIPs), and plain IPv4 for IPv4-mapped IPv6 (what a dual-stack socket reports of an IPv4 peer).
import { BlockList, isIPv4, isIPv6 } from 'node:net'

const MAPPED_PREFIX = '::ffff:'
const MAPPED = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/

/** The canonical literal of an address without its zone, or undefined if `text` is no IP address. */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text
  // As the kernel writes them, with every connection that a dual-stack listener accepts.
  if (text.startsWith(MAPPED_PREFIX) && isIPv4(text.slice(MAPPED_PREFIX.length)))
    return text.slice(MAPPED_PREFIX.length)
  if (!isIPv6(text)) return undefined
  const [bare = ''] = text.split('%')
  const address = new URL(`http://[${bare}]`).hostname.slice(1, -1)
  const [, high, low] = MAPPED.exec(address) ?? []
  if (high === undefined || low === undefined) return address
  const bits = [Number.parseInt(high, 16), Number.parseInt(low, 16)]
  return bits.flatMap(word => [word >> 8, word & 0xff]).join('.')
}

/** `host:port` as URLs and HBONE write it: IPv6 in brackets. */
export const authorityOf = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

/** The parts of `host:port` with an IP literal in canonical form, or undefined: the inverse of authorityOf. */
export function parseAuthority(text: string): { address: string; port: number } | undefined {
  const [, v6, v4, digits = ''] = /^(?:\[([0-9a-f:]+)\]|([0-9.]+)):([1-9][0-9]{0,4})$/.exec(text) ?? []
  const address = v6 ?? v4
  const port = Number(digits)
  if (address === undefined || port > 65_535 || canonicalAddress(address) !== address) return undefined
  return { address, port }
}

export type Cidr = { readonly network: string; readonly bits: number; readonly family: 'ipv4' | 'ipv6' }

/** A prefix such as `10.0.0.0/8`, or undefined. Host bits may be set, as Kubernetes allows them to be. */
export function parseCidr(text: string): Cidr | undefined {
  const [, address = '', digits] = /^([0-9a-fA-F:.]+)\/(0|[1-9][0-9]{0,2})$/.exec(text) ?? []
  const family = isIPv4(address) ? 'ipv4' : isIPv6(address) ? 'ipv6' : undefined
  const bits = Number(digits)
  if (family === undefined || bits > (family === 'ipv4' ? 32 : 128)) return undefined
  return { network: address, bits, family }
}

/**
 * Whether any of the prefixes contains a canonical address. BlockList makes an object for each question, and this is asked
 * for every connection: IPv4 is compared as numbers.
 */
export function cidrsContain(prefixes: readonly Cidr[]): (address: string) => boolean {
  const ipv6 = new BlockList()
  const ipv4: { readonly network: number; readonly mask: number }[] = []
  for (const { network, bits, family } of prefixes) {
    if (family === 'ipv6') ipv6.addSubnet(network, bits, family)
    else {
      const mask = bits === 0 ? 0 : -1 << (32 - bits)
      ipv4.push({ network: ipv4Number(network) & mask, mask })
    }
  }
  return address => {
    if (address.includes(':')) return ipv6.check(address, 'ipv6')
    const asked = ipv4Number(address)
    return ipv4.some(({ network, mask }) => (asked & mask) === network)
  }
}

/** Of a canonical address, as 32 bits with a sign. */
function ipv4Number(address: string): number {
  let number = 0
  let octet = 0
  for (let index = 0; index < address.length; index += 1) {
    const digit = address.charCodeAt(index) - ZERO
    if (digit >= 0) octet = octet * 10 + digit
    else {
      number = (number << 8) | octet
      octet = 0
    }
  }
  return (number << 8) | octet
}

const ZERO = '0'.charCodeAt(0)

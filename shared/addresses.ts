// One text for each IP address, so that addresses can be compared as strings: RFC 5952 for IPv6 (what Kubernetes
// writes in status.podIPs), and plain IPv4 for IPv4-mapped IPv6 (what a dual-stack socket reports of an IPv4 peer).
import { isIPv4, isIPv6 } from 'node:net'

const MAPPED = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/

/** The canonical literal of an address without its zone, or undefined if `text` is no IP address. */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text
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

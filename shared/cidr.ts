// CIDRs that people write: in one form, so that two that mean the same look the same, and whether two have an address in common.
import { type Cidr, canonicalAddress, cidrsContain, parseCidr } from './addresses.ts'

/** The one way to write a prefix: RFC 5952, without host bits. Undefined if it is none. */
export function canonicalCidr(text: string): string | undefined {
  const cidr = parseCidr(text)
  if (!cidr || canonicalAddress(cidr.network)?.includes(':') !== (cidr.family === 'ipv6')) return undefined
  const width = cidr.family === 'ipv4' ? 8 : 16
  const words = cidr.family === 'ipv4' ? cidr.network.split('.').map(Number) : ipv6Words(cidr.network)
  const masked = words.map((word, index) => {
    const kept = Math.min(Math.max(cidr.bits - index * width, 0), width)
    return word & ~(2 ** (width - kept) - 1)
  })
  const address = cidr.family === 'ipv4' ? masked.join('.') : masked.map(word => word.toString(16)).join(':')
  return `${canonicalAddress(address)}/${cidr.bits}`
}

function ipv6Words(address: string): number[] {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const words = (text: string | undefined) =>
    text ? text.split(':').map(word => Number.parseInt(word, 16)) : []
  const [left, right] = [words(head), words(tail)]
  const between = tail === undefined ? 0 : 8 - left.length - right.length
  return [...left, ...Array<number>(between).fill(0), ...right]
}

export function cidrsOverlap(one: string, other: string): boolean {
  const [a, b] = [parseCidr(one), parseCidr(other)]
  if (!a || !b || a.family !== b.family) return false
  const [wide, narrow]: readonly [Cidr, Cidr] = a.bits <= b.bits ? [a, b] : [b, a]
  return cidrsContain([wide])(canonicalAddress(narrow.network) ?? '')
}

// One address for each way in which addresses may be in networks and out of others: networks are intervals, and between two
// neighbouring ends all addresses are alike.
import { type Cidr, canonicalAddress, parseCidr } from '../../../shared/addresses.ts'

const BITS = { ipv4: 32, ipv6: 128 } as const
type Family = keyof typeof BITS

/** `otherwise`: an address of no special meaning. */
export function addressesOf(blocks: readonly string[], otherwise: string): readonly string[] {
  const cidrs = blocks.map(parseCidr).filter(cidr => cidr !== undefined)
  const families: readonly Family[] = ['ipv4', 'ipv6']
  const ends = families.flatMap(family => {
    const places = cidrs.filter(cidr => cidr.family === family).flatMap(endsOf)
    return [...new Set(places)]
      .filter(end => end < 1n << BigInt(BITS[family]))
      .map(end => textOf(end, family))
  })
  return [...new Set([otherwise, ...ends])]
}

/** Where it begins, and where it is over. */
function endsOf({ network, bits, family }: Cidr): readonly [bigint, bigint] {
  const size = 1n << BigInt(BITS[family] - bits)
  const first = (numberOf(network, family) / size) * size
  return [first, first + size]
}

function numberOf(address: string, family: Family): bigint {
  if (family === 'ipv4')
    return address.split('.').reduce((number, octet) => number * 256n + BigInt(octet), 0n)
  const [head = '', tail] = address.split('::')
  const words = (part: string | undefined) => (part ? part.split(':') : [])
  const [before, behind] = [words(head), words(tail)]
  const missing = tail === undefined ? 0 : 8 - before.length - behind.length
  return [...before, ...Array.from({ length: missing }, () => '0'), ...behind].reduce(
    (number, word) => number * 65_536n + BigInt(`0x${word}`),
    0n,
  )
}

function textOf(number: bigint, family: Family): string {
  const [width, count, separator, radix] = family === 'ipv4' ? [8n, 4, '.', 10] : [16n, 8, ':', 16]
  const mask = (1n << BigInt(width)) - 1n
  const parts = Array.from({ length: Number(count) }, (_, index) =>
    ((number >> (BigInt(width) * BigInt(Number(count) - 1 - index))) & mask).toString(Number(radix)),
  )
  const text = parts.join(String(separator))
  return canonicalAddress(text) ?? text
}

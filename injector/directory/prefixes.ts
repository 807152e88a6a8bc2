// Which addresses sidecars ask about. Two sets: *owned* prefixes are known to be the cluster's own (pod CIDRs of nodes,
// Service CIDRs, configuration): what is unknown there is refused. Where a network plugin takes pod addresses from
// elsewhere, the network around each such pod is *asked* about too, or sidecars would dial it in plaintext without
// asking; but other machines may live there, so what is unknown in it is plain. Node addresses need no prefix: they
// are plain either way.
import { isDeepStrictEqual } from 'node:util'
import { type Cidr, cidrsContain, parseCidr } from '../../shared/addresses.ts'

type Block = { readonly value: bigint; readonly bits: number }

const WIDTH = { ipv4: 32, ipv6: 128 } as const

/** The fewest CIDRs that cover exactly the same addresses, in one order: what is sent does not grow with each node. */
export function aggregate(texts: Iterable<string>): string[] {
  const cidrs = [...texts].flatMap(text => parseCidr(text) ?? [])
  return [...merged(cidrs, 'ipv4'), ...merged(cidrs, 'ipv6')]
}

function merged(cidrs: readonly Cidr[], family: 'ipv4' | 'ipv6'): string[] {
  const width = WIDTH[family]
  const blocks = cidrs
    .filter(cidr => cidr.family === family)
    .map(({ network, bits }) => ({ value: firstOf(toBigInt(network, family), bits, width), bits }))
    .sort((a, b) => (a.value < b.value ? -1 : a.value > b.value ? 1 : a.bits - b.bits))
  const stack: Block[] = []
  for (const block of blocks) {
    const top = stack.at(-1)
    if (top && firstOf(block.value, top.bits, width) === top.value && block.bits >= top.bits) continue
    stack.push(block)
    mergeSiblings(stack, width)
  }
  return stack.map(({ value, bits }) => `${toText(value, family)}/${bits}`)
}

/** Two halves of one block that lie on top become the block, and so on upwards. */
function mergeSiblings(stack: Block[], width: number): void {
  for (;;) {
    const [left, right] = stack.slice(-2)
    if (!left || !right || left.bits !== right.bits || left.bits === 0) return
    const bits = left.bits - 1
    if (firstOf(left.value, bits, width) !== firstOf(right.value, bits, width)) return
    stack.splice(-2, 2, { value: firstOf(left.value, bits, width), bits })
  }
}

const firstOf = (value: bigint, bits: number, width: number): bigint => {
  const host = BigInt(width - bits)
  return (value >> host) << host
}

function toBigInt(address: string, family: 'ipv4' | 'ipv6'): bigint {
  if (family === 'ipv4') return address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n)
  const [head = '', tail] = plainV6(address).split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail ? tail.split(':') : []
  const words = [
    ...left,
    ...Array<string>(tail === undefined ? 0 : 8 - left.length - right.length).fill('0'),
    ...right,
  ]
  return words.reduce((sum, word) => sum * 65_536n + BigInt(`0x${word}`), 0n)
}

function toText(value: bigint, family: 'ipv4' | 'ipv6'): string {
  if (family === 'ipv4') return [24n, 16n, 8n, 0n].map(shift => (value >> shift) & 255n).join('.')
  const words = Array.from({ length: 8 }, (_, index) =>
    ((value >> BigInt(112 - 16 * index)) & 65_535n).toString(16),
  )
  return plainV6(words.join(':'))
}

/** RFC 5952, without an embedded IPv4 address. */
const plainV6 = (address: string): string => new URL(`http://[${address}]`).hostname.slice(1, -1)

/** The network around an address that no owned prefix contains: /24, or /64 for IPv6. */
function networkAround(address: string): string {
  const family = address.includes(':') ? 'ipv6' : 'ipv4'
  const bits = family === 'ipv4' ? 24 : 64
  return `${toText(firstOf(toBigInt(address, family), bits, WIDTH[family]), family)}/${bits}`
}

export type Prefixes = {
  /** What is sent to sidecars. */
  asked(): readonly string[]
  owns(address: string): boolean
  /** Replaces the owned prefixes; `addresses` are those of all live pods and Services. True if anything changed. */
  own(cidrs: Iterable<string>, addresses: Iterable<string>): boolean
  /** A live pod or Service got or lost an address. True if what is asked changed. */
  count(address: string, change: 'add' | 'remove'): boolean
}

export function createPrefixes(): Prefixes {
  let owned: readonly string[] = []
  let owns: (address: string) => boolean = () => false
  let asked: readonly string[] | undefined = owned
  /** Networks around addresses that nothing owns, with how many addresses each is there for. */
  const around = new Map<string, number>()

  const count: Prefixes['count'] = (address, change) => {
    if (owns(address)) return false
    const network = networkAround(address)
    const before = around.get(network) ?? 0
    const after = before + (change === 'add' ? 1 : -1)
    if (after > 0) around.set(network, after)
    else around.delete(network)
    if (before > 0 && after > 0) return false
    asked = undefined
    return true
  }
  return {
    asked: () => {
      asked ??= aggregate([...owned, ...around.keys()])
      return asked
    },
    owns: address => owns(address),
    own: (cidrs, addresses) => {
      const next = aggregate(cidrs)
      if (isDeepStrictEqual(next, owned)) return false
      owned = next
      owns = cidrsContain(next.flatMap(text => parseCidr(text) ?? []))
      around.clear()
      asked = undefined
      for (const address of addresses) count(address, 'add')
      return true
    },
    count,
  }
}

// HPACK's Huffman code (RFC 7541, section 5.2 and appendix B). The code is canonical, so that the lengths alone define it:
// symbols of one length have consecutive codes in their order, and shorter codes come first.
import { ErrorCode, Http2Error } from './errors.ts'

const EOS = 256

/** Bits of each symbol's code, EOS last. */
const LENGTHS = Uint8Array.from(
  [
    '13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28',
    ' 6 10 10 12 13  6  8 11 10 10  8 11  8  6  6  6  5  5  5  6  6  6  6  6  6  6  7  8 15  6 12 10',
    '13  6  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  7  8  7  8 13 19 13 14  6',
    '15  5  6  5  6  5  6  6  6  5  7  7  6  6  6  5  6  7  6  5  5  6  7  7  7  7  7 15 11 14 13 28',
    '20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24',
    '22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23',
    '26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27',
    '20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26',
    '30',
  ]
    .join(' ')
    .trim()
    .split(/ +/)
    .map(Number),
)

const CODES = codesOf(LENGTHS)

function codesOf(lengths: Uint8Array): Uint32Array {
  const codes = new Uint32Array(lengths.length)
  let code = 0
  for (let length = 1; length <= 30; length += 1) {
    code *= 2
    for (const [symbol, bits] of lengths.entries()) {
      if (bits !== length) continue
      codes[symbol] = code
      code += 1
    }
  }
  return codes
}

/** The decoder is a state machine that eats four bits at a time: no code is so short that they could end two symbols. */
const EMITS = 0x1_0000
const FAILS = 0x2_0000
/** [state, nibble] → next state, symbol in bits 8 to 15, EMITS or FAILS. A state is an inner node of the code's tree. */
const TRANSITIONS = new Uint32Array(256 * 16)
/** States in which a string may end: fewer than eight bits into EOS, which is all ones. */
const ENDS = new Uint8Array(256)
buildMachine()

function buildMachine(): void {
  const children: number[][] = [[]]
  for (const [symbol, length] of LENGTHS.entries()) grow(children, symbol, length)
  for (const state of children.keys())
    for (let nibble = 0; nibble < 16; nibble += 1)
      TRANSITIONS[state * 16 + nibble] = transition(children, state, nibble)
  let state = 0
  for (let ones = 0; ones < 8; ones += 1) {
    ENDS[state] = 1
    state = children[state]?.[1] ?? 0
  }
}

/** Inner nodes are their number, leaves `-1 - symbol`. */
function grow(children: number[][], symbol: number, length: number): void {
  const code = CODES[symbol] ?? 0
  let node = 0
  for (let bit = length - 1; bit > 0; bit -= 1) {
    const branches = children[node] ?? []
    const side = (code >>> bit) & 1
    node = branches[side] ?? children.push([]) - 1
    branches[side] = node
  }
  const branches = children[node]
  if (branches) branches[code & 1] = -1 - symbol
}

function transition(children: number[][], from: number, nibble: number): number {
  let node = from
  let emitted = 0
  for (let bit = 3; bit >= 0; bit -= 1) {
    node = children[node]?.[(nibble >>> bit) & 1] ?? 0
    if (node >= 0) continue
    const symbol = -1 - node
    if (symbol === EOS) return FAILS
    emitted = EMITS | (symbol << 8)
    node = 0
  }
  return node | emitted
}

let scratch = Buffer.allocUnsafeSlow(4096)

/** @throws Http2Error COMPRESSION_ERROR: EOS within the string, or padding that is not its beginning. */
export function decodeHuffman(from: Buffer, start: number, end: number): string {
  const longest = Math.ceil(((end - start) * 8) / 5)
  if (longest > scratch.length) scratch = Buffer.allocUnsafeSlow(longest)
  let state = 0
  let written = 0
  let failed = 0
  for (let at = start; at < end; at += 1) {
    const byte = from[at] ?? 0
    const first = TRANSITIONS[state * 16 + (byte >>> 4)] ?? 0
    if ((first & EMITS) !== 0) scratch[written++] = first >>> 8
    const second = TRANSITIONS[(first & 0xff) * 16 + (byte & 0xf)] ?? 0
    if ((second & EMITS) !== 0) scratch[written++] = second >>> 8
    failed |= first | second
    state = second & 0xff
  }
  if ((failed & FAILS) !== 0 || ENDS[state] !== 1)
    throw new Http2Error(ErrorCode.COMPRESSION_ERROR, 'a string that is not Huffman code')
  return scratch.toString('latin1', 0, written)
}

/** Bytes that `encodeHuffman` writes. @throws RangeError for a character of more than one byte. */
export function huffmanLength(text: string): number {
  let bits = 0
  let all = 0
  for (let at = 0; at < text.length; at += 1) {
    const symbol = text.charCodeAt(at)
    all |= symbol
    bits += LENGTHS[symbol] ?? 0
  }
  if (all > 0xff) throw new RangeError('a header field holds a character of more than one byte')
  return (bits + 7) >>> 3
}

/** Returns the offset behind what it wrote. */
export function encodeHuffman(text: string, into: Buffer, start: number): number {
  let at = start
  /** Up to seven bits that do not fill a byte yet. */
  let pending = 0
  let bits = 0
  for (let index = 0; index < text.length; index += 1) {
    const symbol = text.charCodeAt(index)
    const code = CODES[symbol] ?? 0
    let left = LENGTHS[symbol] ?? 0
    while (bits + left >= 8) {
      left -= 8 - bits
      into[at] = (pending << (8 - bits)) | (code >>> left)
      at += 1
      pending = 0
      bits = 0
    }
    pending = (pending << left) | (code & ((1 << left) - 1))
    bits += left
  }
  if (bits > 0) {
    into[at] = (pending << (8 - bits)) | (0xff >>> bits)
    at += 1
  }
  return at
}

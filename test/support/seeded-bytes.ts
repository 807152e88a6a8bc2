// An endless stream of bytes that two processes make alike from a seed, so that a receiver can tell at which byte what
// it got is not what was sent, without keeping either: AES in counter mode, gigabytes each second.
import { createCipheriv, createHash } from 'node:crypto'

export type SeededBytes = { take(count: number): Buffer }

const ZEROS = Buffer.alloc(1024 * 1024)

export function seededBytes(seed: string): SeededBytes {
  const digest = createHash('sha256').update(seed).digest()
  const cipher = createCipheriv('aes-128-ctr', digest.subarray(0, 16), digest.subarray(16))
  const take = (count: number): Buffer =>
    count <= ZEROS.length
      ? cipher.update(ZEROS.subarray(0, count))
      : Buffer.concat([take(ZEROS.length), take(count - ZEROS.length)])
  return { take }
}

/** Numbers in [0, 1) that a seed repeats (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

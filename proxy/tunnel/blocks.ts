// Blocks of memory that writes are gathered in, lent for the time of a write: a tunnel that is idle holds none.

/** One write, at most: as many TLS records as one system call takes (see docs/adr). */
export const BLOCK_BYTES = 128 * 1024
const KEPT = 4

const free: Buffer[] = []

export const takeBlock = (): Buffer => free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES)

export function giveBlock(block: Buffer): void {
  if (free.length < KEPT) free.push(block)
}

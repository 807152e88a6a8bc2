// The head as the application gets it: what was authorized, our statement of who calls, and every other line as it came.
import type { RequestHead } from './request-head.ts'

/** The line that names the caller; empty where there is nobody to name. */
export function clientCertLine(value: string | undefined): Buffer {
  return Buffer.from(value === undefined ? '' : `x-forwarded-client-cert: ${value}\r\n`, 'latin1')
}

/** With what the token of a request says. */
export function claimLines(
  clientCert: Buffer,
  adds: readonly (readonly [name: string, value: string])[],
): Buffer {
  if (adds.length === 0) return clientCert
  const lines = adds.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return Buffer.concat([clientCert, Buffer.from(lines, 'latin1')])
}

/** Appends to `pieces` what stands for the head at `start` of `bytes`, which `head` has read. */
export function forwardHead(
  pieces: Buffer[],
  bytes: Buffer,
  start: number,
  head: RequestHead,
  /** Lines of ours. */
  said: Buffer,
): void {
  let from = start
  if (head.rewrittenTarget !== undefined) {
    const version = head.isHttp10 ? 'HTTP/1.0' : 'HTTP/1.1'
    pieces.push(Buffer.from(`${head.request.method} ${head.rewrittenTarget} ${version}\r\n`, 'latin1'))
    from = head.fieldsStart
  }
  if (said.length > 0) {
    if (from < head.fieldsStart) pieces.push(bytes.subarray(from, head.fieldsStart))
    pieces.push(said)
    from = head.fieldsStart
  }
  const { removed } = head
  for (let i = 0; i + 1 < removed.length; i += 2) {
    const [start, end] = [removed[i] ?? from, removed[i + 1] ?? from]
    if (start > from) pieces.push(bytes.subarray(from, start))
    from = end
  }
  pieces.push(bytes.subarray(from, head.end))
}

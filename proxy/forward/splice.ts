// Joins two connections until both have ended: bytes, half-closes, resets and back-pressure travel each way as they
// would over one TCP connection. Stream callbacks only: nothing here makes a promise for a chunk.
import type { Connection } from '../tunnel/interface.ts'

export type Spliced = {
  readonly aToB: number
  readonly bToA: number
  /** How it ended: both sides closed in order, one was reset, or `signal` aborted. */
  readonly outcome: 'ended' | 'reset' | 'aborted'
}

/** Never rejects. After it, both are destroyed. */
export function splice(
  a: Connection,
  b: Connection,
  { signal }: { readonly signal: AbortSignal },
): Promise<Spliced> {
  const { promise, resolve } = Promise.withResolvers<Spliced>()
  const forth = { bytes: 0, ended: false }
  const back = { bytes: 0, ended: false }
  let open = 2

  const settle = (outcome: Spliced['outcome']) => {
    signal.removeEventListener('abort', onAbort)
    resolve({ aToB: forth.bytes, bToA: back.bytes, outcome })
  }
  const tearDown = (outcome: Spliced['outcome']) => {
    a.resetAndDestroy()
    b.resetAndDestroy()
    settle(outcome)
  }
  const onReset = () => tearDown('reset')
  const onAbort = () => tearDown('aborted')
  const onClose = () => {
    open -= 1
    // Closed before both directions have ended: it was cut off, even where no error says so.
    if (!forth.ended || !back.ended) onReset()
    else if (open === 0) settle('ended')
  }

  pass(a, b, forth, onReset)
  pass(b, a, back, onReset)
  for (const side of [a, b]) side.on('error', onReset).once('close', onClose)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  else if (a.destroyed || b.destroyed) onReset()
  return promise
}

/** Bulk is gathered for one turn of the event loop: a system call and a wake-up each, not one for each TLS record. */
const GATHERED_BYTES = 4096
const uncork = (stream: Connection) => stream.uncork()

type Direction = { bytes: number; ended: boolean }

function pass(from: Connection, to: Connection, direction: Direction, onCutOff: () => void): void {
  from.on('data', (chunk: Buffer) => {
    direction.bytes += chunk.length
    if (chunk.length >= GATHERED_BYTES && to.writableCorked === 0) {
      to.cork()
      setImmediate(uncork, to)
    }
    if (!to.write(chunk)) from.pause()
  })
  from.resume()
  to.on('drain', () => from.resume())
  from.once('end', () => {
    if (from.cutOff) return onCutOff()
    direction.ended = true
    to.end()
  })
}

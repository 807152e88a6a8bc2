// Joins two byte streams until both have ended: bytes, half-closes, resets and back-pressure travel each way as they
// would over one TCP connection. Callbacks only: nothing here makes a promise, or anything else, for a chunk.
import type { EndSignal } from '../../shared/ending.ts'
import type { ByteStream, Sink } from '../tunnel/byte-stream.ts'

/** Counted while the connection lives. */
export type Traffic = { aToB: number; bToA: number }

/** How it ended: both sides closed in order, one was reset, or `signal` aborted. */
export type Outcome = 'ended' | 'reset' | 'aborted'

export type SpliceOptions = {
  readonly signal: EndSignal
  readonly traffic: Traffic
}

/** Never rejects. After it, both are over. */
export function splice(a: ByteStream, b: ByteStream, { signal, traffic }: SpliceOptions): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  let open = 2
  const settle = (outcome: Outcome) => {
    open = 0
    signal.removeEventListener('abort', onAbort)
    resolve(outcome)
  }
  const tearDown = (outcome: Outcome) => {
    if (open === 0) return
    settle(outcome)
    a.reset()
    b.reset()
  }
  const onAbort = () => tearDown('aborted')
  const onClosed: Sink['closed'] = how => {
    if (how === 'reset') tearDown('reset')
    else if (open === 1) settle('ended')
    else open -= 1
  }
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) {
    onAbort()
    return promise
  }
  a.open({
    borrows: true,
    data: chunk => {
      traffic.aToB += chunk.length
      if (!b.write(chunk)) a.pause()
    },
    end: () => b.end(),
    drain: () => b.resume(),
    closed: onClosed,
  })
  b.open({
    borrows: true,
    data: chunk => {
      traffic.bToA += chunk.length
      if (!a.write(chunk)) b.pause()
    },
    end: () => a.end(),
    drain: () => a.resume(),
    closed: onClosed,
  })
  return promise
}

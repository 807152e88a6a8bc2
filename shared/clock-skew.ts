// How far this node's clock is from the API server's, by the `Date` of its answers: a certificate's times are the
// signer's, an outside one may backdate or not, and a request may have waited, so that only this tells whose clock is off.
import type { Clock } from './clock.ts'

export type ClockSkew = {
  /** Our clock less the API server's, to a second or so; undefined before its first answer. */
  readonly ms: number | undefined
  /** Takes the `Date` of an answer that has just come. */
  observe(date: string): void
}

/** A `Date` is cut to the second that it lies in. */
const HALF_A_SECOND_MS = 500

export function clockSkew(clock: Pick<Clock, 'now'>, report: (ms: number) => void = () => {}): ClockSkew {
  let ms: number | undefined
  return {
    get ms() {
      return ms
    },
    observe: date => {
      const server = Date.parse(date)
      if (Number.isNaN(server)) return
      ms = clock.now() - (server + HALF_A_SECOND_MS)
      report(ms)
    },
  }
}

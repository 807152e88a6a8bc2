// A peer that vanished says nothing: silence is noticed by a PING that is not answered.
import type { Session } from './session.ts'

/**
 * Calls `onDead` once if nothing arrives for an interval, and then nothing for another that began with a PING. A session
 * that was ended in order can ping no more, but its socket waits for the peer's end: that, too, only for as long.
 */
export function watchLiveness(session: Session, intervalMs: number, onDead: () => void): Disposable {
  let waiting = false
  const timer = setInterval(() => {
    if (session.heard) waiting = false
    else if (waiting) {
      clearInterval(timer)
      onDead()
      return
    } else {
      waiting = true
      session.ping()
    }
    session.heard = false
  }, intervalMs).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

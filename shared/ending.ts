// How what every connection has is ended from outside. An AbortController with its events costs a connection some
// microseconds, and a signal that all of them listen to looks through all of its listeners for each that comes or goes.
// This is an object with a set of callbacks; where it is asked for, an AbortSignal will do, too.
import { ChurnSet } from './churn.ts'

/** What an AbortSignal and an Ending have in common. */
export type EndSignal = {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: 'abort', listener: () => void, options?: { once: true }): void
  removeEventListener(type: 'abort', listener: () => void): void
}

export class Ending implements EndSignal {
  #aborted = false
  #reason: unknown
  #listeners: ChurnSet<() => void> | undefined

  get aborted(): boolean {
    return this.#aborted
  }

  get reason(): unknown {
    return this.#reason
  }

  addEventListener(_: 'abort', listener: () => void): void {
    if (this.#aborted) return
    this.#listeners ??= new ChurnSet()
    this.#listeners.add(listener)
  }

  removeEventListener(_: 'abort', listener: () => void): void {
    this.#listeners?.delete(listener)
  }

  /** Once. Every listener is told, whatever another does. @throws what one of them threw. */
  abort(reason: unknown): void {
    if (this.#aborted) return
    this.#aborted = true
    this.#reason = reason
    if (this.#listeners) callAll(this.#listeners, listener => listener())
    this.#listeners = undefined
  }
}

/** Every one is given to `act`, whatever happens with another. @throws what was thrown. */
export function callAll<T>(all: Iterable<T>, act: (one: T) => void): void {
  const thrown: unknown[] = []
  for (const one of all) {
    try {
      act(one)
    } catch (error) {
      thrown.push(error)
    }
  }
  if (thrown.length === 1) throw thrown[0]
  if (thrown.length > 1) throw new AggregateError(thrown, 'several failed')
}

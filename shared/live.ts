// A value that changes while the process lives, and who wants to know. Policy, trust and credentials are Lives:
// a change reaches live connections by a synchronous call, with no polling and no event names.

export type Live<T> = {
  get(): T
  /** Calls `listener` at each later change, in order of subscription. Returns how to stop. */
  subscribe(listener: (value: T) => void): () => void
}

export type Settable<T> = Live<T> & {
  /** Every listener hears it, whatever another does. @throws what a listener threw, after all have been called. */
  set(value: T): void
}

export function live<T>(initial: T): Settable<T> {
  let current = initial
  let changes = 0
  const listeners = new Set<(value: T) => void>()
  return {
    get: () => current,
    subscribe: listener => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    set: value => {
      current = value
      changes += 1
      const change = changes
      const thrown: unknown[] = []
      for (const listener of [...listeners]) {
        // A listener may have set a newer value, which all have heard by now, or stopped another listener.
        if (change !== changes) break
        if (!listeners.has(listener)) continue
        try {
          listener(value)
        } catch (error) {
          thrown.push(error)
        }
      }
      if (thrown.length === 1) throw thrown[0]
      if (thrown.length > 1) throw new AggregateError(thrown, 'several listeners failed')
    },
  }
}

/** `source` as seen through a function. */
export const mapped = <T, U>(source: Live<T>, map: (value: T) => U): Live<U> => ({
  get: () => map(source.get()),
  subscribe: listener => source.subscribe(value => listener(map(value))),
})

/** Two sources as one value, which changes with either. */
export const joined = <A, B, T>(a: Live<A>, b: Live<B>, join: (a: A, b: B) => T): Live<T> => {
  const get = () => join(a.get(), b.get())
  const subscribe = (listener: (value: T) => void) => {
    const stops = [a, b].map(source => source.subscribe(() => listener(get())))
    return () => {
      for (const stop of stops) stop()
    }
  }
  return { get, subscribe }
}

/** As mapped and joined, but computed once at each change, and for as long as its sources live. */
export function derived<T>(sources: readonly Pick<Live<unknown>, 'subscribe'>[], compute: () => T): Live<T> {
  const result = live(compute())
  for (const source of sources) source.subscribe(() => result.set(compute()))
  return result
}

/** Resolves with the first value that passes `test`, at once if the present one does; rejects when aborted. */
export function until<T, U extends T>(
  source: Live<T>,
  test: (value: T) => value is U,
  signal: AbortSignal,
): Promise<U> {
  const { promise, resolve, reject } = Promise.withResolvers<U>()
  const aborted = () => reject(signal.reason)
  const check = (value: T) => {
    if (test(value)) resolve(value)
  }
  const stop = source.subscribe(check)
  if (signal.aborted) aborted()
  signal.addEventListener('abort', aborted, { once: true })
  check(source.get())
  return promise.finally(() => {
    stop()
    signal.removeEventListener('abort', aborted)
  })
}

// The API as a process uses it that may be killed: after its death no call goes out, and no answer arrives. A call under way
// has then been carried out or not, as with any process.
import type { Kube } from '../../../shared/kube/rest.ts'

/** Where in its life of writing calls (create, replace, patch, delete) it dies; `after`: the call is carried out, unheard. */
export type Death = { readonly when: 'before' | 'after'; readonly write: number }

export type MortalKube = {
  readonly kube: Kube
  /** Resolves when it dies of itself. */
  readonly died: Promise<void>
  kill(): void
}

export function mortalKube(real: Kube, death?: Death): MortalKube {
  const { promise: died, resolve } = Promise.withResolvers<void>()
  const dead = new AbortController()
  let writes = 0
  const kill = () => {
    dead.abort()
    resolve()
  }
  /** The dead neither go on nor fail: whoever waits, waits until its own signal aborts. */
  const never = (signal: AbortSignal | undefined) =>
    new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
      if (signal?.aborted) reject(signal.reason)
    })
  const call = async <T>(signal: AbortSignal | undefined, act: () => Promise<T>): Promise<T> => {
    if (dead.signal.aborted) return never(signal)
    const answer = await act()
    return dead.signal.aborted ? never(signal) : answer
  }
  const write = <T>(signal: AbortSignal | undefined, act: () => Promise<T>): Promise<T> => {
    writes += 1
    const isLast = writes === death?.write
    if (isLast && death?.when === 'before') kill()
    return call(signal, async () => {
      const answer = await act()
      if (isLast) kill()
      return answer
    })
  }
  return {
    died,
    kill,
    kube: {
      get: (path, signal) => call(signal, () => real.get(path, signal)),
      create: (path, body, signal) => write(signal, () => real.create(path, body, signal)),
      replace: (path, body, signal) => write(signal, () => real.replace(path, body, signal)),
      patch: (path, type, body, signal) => write(signal, () => real.patch(path, type, body, signal)),
      delete: (path, body, signal) => write(signal, () => real.delete(path, body, signal)),
      stream: (path, signal) => call(signal, () => real.stream(path, AbortSignal.any([signal, dead.signal]))),
      [Symbol.dispose]: () => {},
    },
  }
}

// The keys of the issuers that RequestAuthentication names: written into it, or fetched and kept up to date. A fetch never keeps
// a request waiting: what is known decides, and what is not known yet is asked for in the background.
import { backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { asPosternError, type PosternError } from '../../shared/errors.ts'
import { keyOf, type PublicJwk } from '../../shared/jwt/jwks.ts'
import type { TrustedKey } from '../../shared/jwt/verify.ts'
import { type Live, live } from '../../shared/live.ts'
import type { FetchedKeys, KeySource } from '../../shared/policy/request-authentication.ts'
import type { FetchKeys } from './jwks-fetch.ts'

export type KeyEvent =
  | {
      readonly kind: 'fetched'
      readonly uri: string
      readonly keys: number
      readonly unusable: readonly string[]
      readonly changed: boolean
    }
  | {
      readonly kind: 'failed'
      readonly uri: string
      readonly error: PosternError
      readonly retryMs: number
      readonly hasKeys: boolean
    }

export type KeySets = {
  /** Undefined: they could not be fetched yet. */
  keysOf(source: KeySource): readonly TrustedKey[] | undefined
  /** A token names a key that is none of them: perhaps it is new. */
  missed(source: KeySource): void
  /** Those that are in use: others are forgotten. */
  follow(sources: readonly KeySource[]): void
  /** When the oldest that are in force were fetched, milliseconds since the epoch; 0: some never were. Undefined: none is. */
  oldest(): number | undefined
  /** Changes whenever some key came or went. */
  readonly changes: Live<number>
}

type Parts = {
  readonly fetch: FetchKeys
  readonly clock: Clock
  readonly random: () => number
  readonly observe: (event: KeyEvent) => void
  readonly signal: AbortSignal
}

const REFRESH_MS = 5 * 60_000
/** Of the wait: sidecars that started together do not ask together. */
const JITTER = 0.2
const RETRY = { baseMs: 1_000, capMs: 60_000 } as const
/** Tokens of strangers may not make us ask more often. */
const MISSED_MS = 30_000

type FetchedSet = {
  readonly source: FetchedKeys
  readonly stop: AbortController
  keys: readonly TrustedKey[] | undefined
  fetchedAt: number
  askedAt: number
  /** Ends the present wait. */
  hurry: () => void
}

export function createKeySets({ fetch, clock, random, observe, signal }: Parts): KeySets {
  const sets = new Map<string, FetchedSet>()
  const inline = new WeakMap<readonly PublicJwk[], readonly TrustedKey[]>()
  const changes = live(0)

  /** How long to wait for the next question, after so many failures in a row, this one included. */
  const ask = async (set: FetchedSet, failures: number): Promise<{ failures: number; waitMs: number }> => {
    const { source, stop } = set
    set.askedAt = clock.monotonic()
    try {
      const { keys, unusable } = await fetch(source, stop.signal)
      const changed = update(set, keys)
      set.fetchedAt = clock.now()
      observe({ kind: 'fetched', uri: source.uri, keys: keys.length, unusable, changed })
      if (changed) changes.set(changes.get() + 1)
      return { failures: 0, waitMs: REFRESH_MS * (1 - JITTER * random()) }
    } catch (thrown) {
      stop.signal.throwIfAborted()
      const error = asPosternError(thrown, 'PSTN_JWKS_UNAVAILABLE')
      const retryMs = backoffMs(RETRY, failures, random())
      observe({ kind: 'failed', uri: source.uri, error, retryMs, hasKeys: set.keys !== undefined })
      return { failures: failures + 1, waitMs: retryMs }
    }
  }
  const run = async (set: FetchedSet) => {
    let failures = 0
    while (!set.stop.signal.aborted) {
      const asked = await ask(set, failures)
      failures = asked.failures
      const hurried = new AbortController()
      set.hurry = () => hurried.abort()
      await clock
        .sleep(asked.waitMs, AbortSignal.any([set.stop.signal, hurried.signal]))
        .catch(() => undefined)
    }
  }
  const start = (source: FetchedKeys): FetchedSet => {
    const stop = new AbortController()
    signal.addEventListener('abort', () => stop.abort(), { once: true, signal: stop.signal })
    const set: FetchedSet = {
      source,
      stop,
      keys: undefined,
      fetchedAt: 0,
      askedAt: 0,
      hurry: () => undefined,
    }
    run(set).catch(() => undefined)
    return set
  }
  return {
    changes,
    oldest: () =>
      sets.size > 0 ? Math.min(...[...sets.values()].map(({ fetchedAt }) => fetchedAt)) : undefined,
    keysOf: source => {
      if (source.kind === 'uri') return sets.get(nameOf(source))?.keys
      return inline.get(source.keys) ?? remember(inline, source.keys)
    },
    missed: source => {
      const set = source.kind === 'uri' ? sets.get(nameOf(source)) : undefined
      if (set && clock.monotonic() - set.askedAt >= MISSED_MS) set.hurry()
    },
    follow: sources => {
      const wanted = new Map(
        sources.filter(source => source.kind === 'uri').map(source => [nameOf(source), source]),
      )
      for (const [name, { stop }] of sets)
        if (!wanted.has(name)) {
          stop.abort()
          sets.delete(name)
        }
      for (const [name, source] of wanted) if (!sets.has(name)) sets.set(name, start(source))
    },
  }
}

const nameOf = ({ uri, roots = [] }: FetchedKeys): string => [uri, ...roots].join('\n')

function remember(
  inline: WeakMap<readonly PublicJwk[], readonly TrustedKey[]>,
  keys: readonly PublicJwk[],
): readonly TrustedKey[] {
  const trusted = keys.map(jwk => ({ jwk, key: keyOf(jwk) }))
  inline.set(keys, trusted)
  return trusted
}

/** A key that stays is the same object: what it vouched for goes on. Whether any came or went. */
function update(set: FetchedSet, keys: readonly PublicJwk[]): boolean {
  const former = new Map(set.keys?.map(trusted => [JSON.stringify(trusted.jwk), trusted]))
  const next = keys.map(jwk => former.get(JSON.stringify(jwk)) ?? { jwk, key: keyOf(jwk) })
  const changed =
    set.keys === undefined || next.length !== former.size || next.some(key => !set.keys?.includes(key))
  set.keys = next
  return changed
}

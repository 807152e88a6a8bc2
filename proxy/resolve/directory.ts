// What this sidecar knows of the addresses that it uses, and only of those: an address is subscribed to on first use
// and given up when it has not been used for a while, so that the cost does not grow with the cluster.
import { ChurnMap } from '../../shared/churn.ts'
import type { Clock } from '../../shared/clock.ts'
import type { AddressEntry } from '../../shared/control/messages.ts'
import type { EndSignal } from '../../shared/ending.ts'
import { live, until } from '../../shared/live.ts'

export type Directory = {
  /** The full set of addresses to subscribe to. */
  wanted(): readonly string[]
  /** Calls `listener` whenever that set changes. Returns how to stop. */
  onWanted(listener: () => void): () => void
  /**
   * What is known of a canonical address inside the cluster's prefixes. Waits for an answer, and in the hope of a
   * better one than `unknown`, but never long: then it is `unknown`, which is refused, not guessed.
   */
  lookup(address: string, signal: EndSignal): Promise<AddressEntry>
  /** What the control stream said. Entries of a lost stream stay in force until a newer statement. */
  receive(entries: readonly AddressEntry[]): void
  /** What is known, the least recently used first; not what is unknown. */
  known(): readonly AddressEntry[]
  /** Calls `listener` whenever the control stream said something; a heartbeat does not. Returns how to stop. */
  onReceived(listener: () => void): () => void
  /** Calls `listener` with each address that is given up. Returns how to stop. */
  onForgotten(listener: (address: string) => void): () => void
  /** Gives up what has not been used for a while; not while the stream is lost, when nothing could be learnt again. */
  sweep(): void
}

/** A new pod's address may reach a caller before it reaches the directory. */
export const UNKNOWN_WAIT_MS = 2_000
const UNUSED_MS = 5 * 60_000
/** An application that scans the cluster costs its sidecar no more than this: the least recently used goes first. */
const MAX_ADDRESSES = 10_000

type Known = {
  usedAt: number
  /** When it was first said to be unknown, or not known at all. */
  unknownSince: number
  /** From before a restart, for as long as the control stream has not said anything. */
  readonly kept?: AddressEntry
  readonly entry: ReturnType<typeof live<AddressEntry | undefined>>
}

/**
 * `kept` is what was known before a restart. Nobody listened meanwhile, and a pod with a sidecar may have got an address
 * that was plain: it is used only if nothing newer is said in time. `onLimit` is called for each address that is given up
 * because there are too many.
 */
export function createDirectory(
  clock: Clock,
  kept: readonly AddressEntry[] = [],
  onLimit: () => void = () => {},
): Directory {
  const since = clock.monotonic()
  /** The least recently used first. */
  const known = new ChurnMap<string, Known>()
  for (const entry of kept)
    known.set(entry.address, { usedAt: since, unknownSince: since, kept: entry, entry: live(undefined) })
  const wanting = listeners()
  const receiving = listeners()
  const forgetting = listeners<string>()

  const forget = (address: string): void => {
    known.delete(address)
    forgetting.call(address)
  }

  const use = (address: string): Known => {
    const now = clock.monotonic()
    const existing = known.get(address)
    const used = existing ?? { usedAt: now, unknownSince: now, entry: live(undefined) }
    used.usedAt = now
    known.delete(address)
    known.set(address, used)
    if (!existing) {
      const [oldest] = known.size > MAX_ADDRESSES ? (known.first() ?? []) : []
      if (oldest !== undefined) {
        forget(oldest)
        onLimit()
      }
      wanting.call()
    }
    return used
  }

  return {
    wanted: () => [...known].map(([address]) => address),
    onWanted: wanting.add,
    known: () => [...known].map(([, { kept, entry }]) => entry.get() ?? kept).filter(isSettled),
    onReceived: receiving.add,
    onForgotten: forgetting.add,
    lookup: async (address, signal) => {
      const { kept, entry, unknownSince } = use(address)
      const now = entry.get()
      if (isSettled(now)) return now
      const left = unknownSince + UNKNOWN_WAIT_MS - clock.monotonic()
      if (left > 0) await settled(entry, left, signal)
      return entry.get() ?? kept ?? { kind: 'unknown', address }
    },
    receive: entries => {
      for (const entry of entries) {
        const subscribed = known.get(entry.address)
        if (!subscribed) continue
        if (isSettled(subscribed.entry.get()) && !isSettled(entry))
          subscribed.unknownSince = clock.monotonic()
        subscribed.entry.set(entry)
      }
      if (entries.length > 0) receiving.call()
    },
    sweep: () => {
      const oldest = clock.monotonic() - UNUSED_MS
      const unused = [...known].filter(([, { usedAt }]) => usedAt < oldest)
      for (const [address] of unused) forget(address)
      if (unused.length > 0) wanting.call()
    },
  }

  async function settled(entry: Known['entry'], ms: number, signal: EndSignal): Promise<void> {
    const over = new AbortController()
    const onAbort = () => over.abort(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    try {
      await Promise.race([until(entry, isSettled, over.signal), clock.sleep(ms, over.signal)])
    } finally {
      signal.removeEventListener('abort', onAbort)
      over.abort()
    }
  }
}

function listeners<T = void>() {
  const all = new Set<(value: T) => void>()
  return {
    add: (listener: (value: T) => void) => {
      all.add(listener)
      return () => void all.delete(listener)
    },
    call: (value: T) => {
      for (const listener of [...all]) listener(value)
    },
  }
}

const isSettled = (entry: AddressEntry | undefined): entry is AddressEntry =>
  entry !== undefined && entry.kind !== 'unknown'

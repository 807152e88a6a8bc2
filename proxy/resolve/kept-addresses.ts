// Keeps what the directory knows over a restart of the sidecar: while the injector is away nothing could be learnt again,
// and every peer that the application talks to would be refused as unknown.
import type { Clock } from '../../shared/clock.ts'
import { decodeAddresses } from '../../shared/control/decode.ts'
import type { AddressEntry, Addresses } from '../../shared/control/messages.ts'
import { live, until } from '../../shared/live.ts'
import type { StateVolume } from '../credentials/state-volume.ts'
import type { Directory } from './directory.ts'

/** Answers come in bursts, and each writing is of everything. */
const GATHER_MS = 1_000
/** An eighth of the volume. */
const MOST_BYTES = 1024 * 1024

/** A damaged copy counts as none. */
export async function readAddresses(volume: StateVolume): Promise<readonly AddressEntry[]> {
  try {
    return decodeAddresses(await volume.read('addresses.json')).entries
  } catch {
    return []
  }
}

export type KeepContext = {
  readonly directory: Directory
  readonly volume: StateVolume
  readonly clock: Clock
  /** Not all fit; told at each writing. */
  onLimit?(): void
}

/** Until aborted. */
export async function keepAddresses(context: KeepContext, signal: AbortSignal): Promise<void> {
  const { directory, volume, clock, onLimit = () => {} } = context
  const received = live(0)
  const stop = directory.onReceived(() => received.set(received.get() + 1))
  try {
    for (let kept = 0; ; ) {
      await until(received, (count): count is number => count > kept, signal)
      await clock.sleep(GATHER_MS, signal)
      kept = received.get()
      const known = directory.known()
      const entries = lastUsed(known, MOST_BYTES)
      if (entries.length < known.length) onLimit()
      await volume.write('addresses.json', { kind: 'addresses', entries } satisfies Addresses)
    }
  } catch (thrown) {
    if (!signal.aborted) throw thrown
  } finally {
    stop()
  }
}

/** The end of `entries`, the most recently used, that fits into so many bytes of JSON; in the same order. */
export function lastUsed(entries: readonly AddressEntry[], mostBytes: number): AddressEntry[] {
  let bytes = 0
  const first = entries.findLastIndex(entry => {
    bytes += Buffer.byteLength(JSON.stringify(entry)) + 1
    return bytes > mostBytes
  })
  return entries.slice(first + 1)
}

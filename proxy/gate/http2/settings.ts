// SETTINGS pass from end to end, so that windows and acknowledgements are those of caller and application; what concerns
// the gate in between is bounded on the way. Header tables are ours on each side: their size is not passed on.
import { ErrorCode, Http2Error } from '../../http2/errors.ts'
import { Setting, type SettingEntry } from '../../http2/frames.ts'
import type { HpackEncoder } from '../../http2/hpack-encoder.ts'
import { LIMITS } from './limits.ts'

/** Unknown settings are for extensions whose frames would not pass. */
const FROM_CALLER = new Map<number, number>([
  [Setting.enablePush, 0],
  [Setting.initialWindowSize, Number.POSITIVE_INFINITY],
  [Setting.maxConcurrentStreams, Number.POSITIVE_INFINITY],
  [Setting.maxFrameSize, LIMITS.frameBytes],
  [Setting.maxHeaderListSize, LIMITS.answerListBytes],
])
const FROM_APPLICATION = new Map<number, number>([
  [Setting.initialWindowSize, Number.POSITIVE_INFINITY],
  [Setting.maxConcurrentStreams, LIMITS.concurrentStreams],
  [Setting.maxFrameSize, LIMITS.frameBytes],
  [Setting.maxHeaderListSize, LIMITS.requestListBytes],
  [Setting.enableConnectProtocol, 1],
])

/** What holds without a word, and must be said by us. */
const DEFAULTS_FOR_APPLICATION: readonly SettingEntry[] = [
  [Setting.enablePush, 0],
  [Setting.maxHeaderListSize, LIMITS.answerListBytes],
]
const DEFAULTS_FOR_CALLER: readonly SettingEntry[] = [
  [Setting.maxConcurrentStreams, LIMITS.concurrentStreams],
  [Setting.maxHeaderListSize, LIMITS.requestListBytes],
]

export const settingsForApplication = (entries: readonly SettingEntry[], first: boolean): SettingEntry[] =>
  bounded(entries, FROM_CALLER, first ? DEFAULTS_FOR_APPLICATION : [])

export const settingsForCaller = (entries: readonly SettingEntry[], first: boolean): SettingEntry[] =>
  bounded(entries, FROM_APPLICATION, first ? DEFAULTS_FOR_CALLER : [])

function bounded(
  entries: readonly SettingEntry[],
  most: ReadonlyMap<number, number>,
  defaults: readonly SettingEntry[],
): SettingEntry[] {
  const passed = entries.flatMap(([id, value]): SettingEntry[] => {
    const limit = most.get(id)
    return limit === undefined ? [] : [[id, Math.min(value, limit)]]
  })
  return [...defaults.filter(([id]) => !passed.some(([other]) => other === id)), ...passed]
}

/** How long frames to the sender of `entries` may be now. */
export function longestFrame(entries: readonly SettingEntry[], before: number): number {
  const sizes = entries.flatMap(([id, value]) => (id === Setting.maxFrameSize ? [value] : []))
  return Math.max(before, ...sizes.map(size => Math.min(size, LIMITS.frameBytes)))
}

/** One side's SETTINGS until the other has acknowledged them: only then its table sizes hold for our blocks to it. */
export class Unacknowledged {
  readonly #encoder: HpackEncoder
  readonly #waiting: (readonly number[])[] = []

  constructor(encoder: HpackEncoder) {
    this.#encoder = encoder
  }

  /** @throws Http2Error */
  sent(entries: readonly SettingEntry[]): void {
    if (this.#waiting.length >= LIMITS.unacknowledgedSettings)
      throw new Http2Error(ErrorCode.ENHANCE_YOUR_CALM, 'SETTINGS without waiting for acknowledgements')
    this.#waiting.push(entries.filter(([id]) => id === Setting.headerTableSize).map(([, size]) => size))
  }

  /** @throws Http2Error */
  acknowledged(): void {
    const sizes = this.#waiting.shift()
    if (sizes === undefined)
      throw new Http2Error(ErrorCode.PROTOCOL_ERROR, 'an acknowledgement of no SETTINGS')
    for (const size of sizes) this.#encoder.setMaxTableSize(size)
  }
}

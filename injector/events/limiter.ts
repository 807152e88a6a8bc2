// How many Events may be written: a crash-looping ReplicaSet must not flood etcd, and no namespace's noise hides another's.
export type EventLimits = {
  /** The same event about the same object at most once in this time. */
  readonly repeatMs: number
  /** Events of all kinds in one minute, and of them those about one namespace. */
  readonly perMinute: number
  readonly perNamespace: number
}

export const EVENTS_PER_MINUTE = { perMinute: 60, perNamespace: 20 } as const
const LIMITS: EventLimits = { repeatMs: 5 * 60_000, ...EVENTS_PER_MINUTE }
/** Remembered repetitions; older ones are forgotten first. */
const MAX_REMEMBERED = 1_000
/** However many namespaces are noisy, another's first Event of the minute is written, up to so many times the whole. */
const FIRSTS = 10

/** Whether an event may be written now; a repetition or a flood may not, and no namespace's flood silences another. */
export function eventLimiter({ repeatMs, perMinute, perNamespace }: EventLimits = LIMITS) {
  const last = new Map<string, number>()
  const written = new Map<string, number>()
  let minute = Number.NEGATIVE_INFINITY
  let total = 0
  return (namespace: string, what: string, nowMs: number): boolean => {
    if (nowMs >= minute + 60_000) {
      minute = nowMs
      total = 0
      written.clear()
    }
    const key = `${namespace} ${what}`
    const before = last.get(key)
    if (before !== undefined && nowMs < before + repeatMs) return false
    const own = written.get(namespace) ?? 0
    if (own >= perNamespace || total >= (own === 0 ? FIRSTS * perMinute : perMinute)) return false
    written.set(namespace, own + 1)
    total += 1
    last.delete(key)
    last.set(key, nowMs)
    if (last.size > MAX_REMEMBERED) last.delete(last.keys().next().value ?? key)
    return true
  }
}

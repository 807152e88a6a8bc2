// Bounds what others can make us write: whoever is refused a thousand times a second costs a few lines and one count, not
// the node's disk. The first lines of each kind are always written, and metrics count everything.
import type { Code } from './errors.ts'
import type { Logger } from './log.ts'

/** What makes two lines alike. Where there are too many kinds at once, only the code tells them apart. */
export type Kind = { readonly code?: Code | undefined; readonly [field: string]: unknown }

const LINE_QUOTA = { lines: 20, intervalMs: 10_000, kinds: 500 } as const

/** Whether a line of this kind may be written now. What was not is counted in one line at the end of the interval. */
export function createLineQuota(log: Logger, limits: Quota = LINE_QUOTA): (kind: Kind) => boolean {
  const { lines, intervalMs, kinds } = limits
  const counted = new Map<string, { readonly kind: Kind; count: number }>()
  const report = () => {
    for (const { kind, count } of counted.values()) {
      if (count > lines) log.warn({ ...kind, suppressed: count - lines }, 'lines suppressed')
    }
    counted.clear()
  }
  const countOf = (kind: Kind) => {
    const key = JSON.stringify(kind)
    const found = counted.get(key)
    if (found || counted.size < kinds) return found ?? added(key, kind)
    const rest = { code: kind.code }
    const restKey = JSON.stringify(rest)
    return counted.get(restKey) ?? added(restKey, rest)
  }
  const added = (key: string, kind: Kind) => {
    if (counted.size === 0) setTimeout(report, intervalMs).unref()
    const fresh = { kind, count: 0 }
    counted.set(key, fresh)
    return fresh
  }
  return kind => {
    const entry = countOf(kind)
    entry.count += 1
    return entry.count <= lines
  }
}

type Quota = { readonly [K in keyof typeof LINE_QUOTA]: number }

// What several repeats of one measurement say: the median, and how far the repeats lie apart.

export type Summary = {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly count: number
}

/** @throws RangeError without values: what was not measured has no median. */
export function summarize(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle]
  const lower = sorted.length % 2 === 0 ? sorted[middle - 1] : upper
  const [min, max] = [sorted[0], sorted.at(-1)]
  if (upper === undefined || lower === undefined || min === undefined || max === undefined)
    throw new RangeError('no values')
  return { median: (lower + upper) / 2, min, max, count: sorted.length }
}

/** The smallest value that at least `share` of the values do not exceed (nearest rank). */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
  if (value === undefined) throw new RangeError('no values')
  return value
}

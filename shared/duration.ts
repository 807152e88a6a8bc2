// Lengths of time for people: the two units that matter.

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
] as const

/** For example `11 h 58 min`, `29 d`, `0 s`; of a negative one its length. */
export function duration(ms: number): string {
  let seconds = Math.floor(Math.abs(ms) / 1000)
  const largest = UNITS.findIndex(([, size]) => seconds >= size)
  if (largest === -1) return '0 s'
  const parts: string[] = []
  for (const [unit, size] of UNITS.slice(largest, largest + 2)) {
    const count = Math.floor(seconds / size)
    seconds -= count * size
    if (count > 0) parts.push(`${count} ${unit}`)
  }
  return parts.join(' ')
}

// The known name that a misspelt one most likely meant, for the hints of refusals.

/** The nearest of `known` within a third of its length, or undefined. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = Infinity
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance && distance <= Math.max(1, candidate.length / 3)) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** `; did you mean X?`, or nothing. */
export const didYouMean = (name: string, known: readonly string[]): string => {
  const suggestion = nearest(name, known)
  return suggestion === undefined ? '' : `; did you mean ${suggestion}?`
}

/** Levenshtein distance, by rows. Names longer than any of ours are not worth the quadratic work. */
function editDistance(a: string, b: string): number {
  if (a.length > 100) return Infinity
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? Infinity
}

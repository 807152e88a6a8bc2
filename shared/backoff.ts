// Capped exponential backoff with jitter over its upper half (never a wait of nothing), as a pure function of the attempt number and a random number.

export type Backoff = { readonly baseMs: number; readonly capMs: number }

/** Milliseconds to wait before attempt `attempt` (0 = the first retry). `random` is in [0, 1). */
export function backoffMs({ baseMs, capMs }: Backoff, attempt: number, random: number): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30))
  return Math.round(ceiling / 2 + (ceiling / 2) * random)
}

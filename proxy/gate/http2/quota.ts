// So many at once, so many a second: what an honest peer never notices and a flood runs into.

export type Rate = { readonly burst: number; readonly perSecond: number }

export class Quota {
  readonly #rate: Rate
  readonly #now: () => number
  #left: number
  #filledAt: number

  constructor(rate: Rate, now: () => number) {
    this.#rate = rate
    this.#now = now
    this.#left = rate.burst
    this.#filledAt = now()
  }

  /** False: there is none left. The clock is asked only then. */
  take(): boolean {
    if (this.#left < 1) this.#fill()
    this.#left -= 1
    return this.#left >= 0
  }

  /** What the other side's traffic entitles to. */
  earn(count: number): void {
    if (this.#left < this.#rate.burst) this.#left += count
  }

  #fill(): void {
    const now = this.#now()
    const earned = ((now - this.#filledAt) / 1000) * this.#rate.perSecond
    this.#left = Math.min(this.#rate.burst, Math.max(0, this.#left) + earned)
    this.#filledAt = now
  }
}

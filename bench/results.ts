// What was measured: every repeat's value by subject and measure, and their summaries.
import type { Figure, Unit } from './experiment.ts'
import { type Summary, summarize } from './statistics.ts'
import type { SubjectName } from './subject.ts'

/** One entry of the JSON file. */
export type Result = {
  readonly subject: SubjectName
  readonly measure: string
  readonly value: number
  readonly unit: Unit
  /** The smallest and the largest repeat. */
  readonly spread: readonly [number, number]
}

type Series = {
  readonly subject: SubjectName
  readonly measure: string
  readonly unit: Unit
  readonly values: number[]
}

export type Recorder = {
  record(subject: SubjectName, figures: readonly Figure[]): void
  results(): readonly Result[]
}

export function createRecorder(): Recorder {
  const series = new Map<string, Series>()
  return {
    record: (subject, figures) => {
      for (const { measure, value, unit } of figures) {
        const key = `${subject} ${measure}`
        const found = series.get(key) ?? { subject, measure, unit, values: [] }
        found.values.push(value)
        series.set(key, found)
      }
    },
    results: () => [...series.values()].map(({ values, ...rest }) => toResult(rest, summarize(values))),
  }
}

const toResult = (rest: Omit<Series, 'values'>, { median, min, max }: Summary): Result => ({
  ...rest,
  value: significant(median),
  spread: [significant(min), significant(max)],
})

/** Four digits are more than the noise leaves. */
export const significant = (value: number): number => Number(value.toPrecision(4))

/** A subject's median of a measure, if it was measured. */
export const medianOf = (
  results: readonly Result[],
  subject: SubjectName,
  measure: string,
): number | undefined =>
  results.find(result => result.subject === subject && result.measure === measure)?.value

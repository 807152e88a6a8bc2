// The results as Markdown.
import type { Result } from './results.ts'
import { SUBJECTS } from './subject.ts'
import type { Verdict } from './targets.ts'

/** Rows of cells; the first is the head. Columns are padded, so that it reads well in a terminal too. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head = []] = rows
  const widths = head.map((_, column) => Math.max(3, ...rows.map(row => row[column]?.length ?? 0)))
  const line = (cells: readonly string[]) =>
    `| ${widths.map((width, i) => (cells[i] ?? '').padEnd(width)).join(' | ')} |`
  const rule = `|${widths.map(width => '-'.repeat(width + 2)).join('|')}|`
  return [line(head), rule, ...rows.slice(1).map(line)].join('\n')
}

export function targetsTable(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ target, reached, verdict }) => {
    const { title, subject, against, better, atLeast, aim } = target
    const bound = better === 'more' ? '≥' : '≤'
    const unit = against ? '×' : ''
    const shown = reached === undefined ? '–' : `${reached.toFixed(against ? 3 : 1)}${unit}`
    const verdictCell = verdict === 'miss' ? '**miss**' : verdict
    return [title, subject, against ?? '–', shown, `${bound} ${atLeast}${unit}`, `${aim}${unit}`, verdictCell]
  })
  return markdownTable([['measure', 'subject', 'against', 'reached', 'at least', 'aim', ''], ...rows])
}

/** A row a measure, a column a subject; the ratio to Envoy's median behind Postern's. */
export function resultsTable(results: readonly Result[]): string {
  const subjects = SUBJECTS.filter(name => results.some(({ subject }) => subject === name))
  const measures = new Map(results.map(({ measure, unit }) => [measure, unit]))
  const rows = [...measures].map(([measure, unit]) => {
    const of = (name: string) => results.find(r => r.subject === name && r.measure === measure)
    const [l4, l7] = [of('envoy-l4')?.value, of('envoy-l7')?.value]
    return [
      `${measure}, ${unit}`,
      ...subjects.map(name => cell(of(name), name.startsWith('postern'), l4, l7)),
    ]
  })
  return markdownTable([['measure', ...subjects], ...rows])
}

function cell(result: Result | undefined, isOurs: boolean, l4 = 0, l7 = 0): string {
  if (!result) return '–'
  const { value, spread } = result
  const [min, max] = spread.map(shown)
  const range = min === max ? '' : ` (${min}–${max})`
  const ratios = [l4, l7].map(peer => (peer > 0 ? `${(value / peer).toFixed(2)}×` : '–'))
  return `${shown(value)}${range}${isOurs && l4 + l7 > 0 ? ` [${ratios.join(' ')}]` : ''}`
}

const shown = (value: number): string =>
  value >= 100_000 ? `${Math.round(value / 1000)} k` : String(Number(value.toPrecision(3)))

// What commands print: lines and tables on standard output, or one JSON document with `--json`; notes on standard error.
import { printable, printableJson } from '../shared/printable.ts'

export type Output = {
  readonly json: boolean
  line(text: string): void
  /** For people who watch: never part of the answer. */
  note(text: string): void
  /** Columns are as wide as their widest cell. */
  table(header: readonly string[], rows: readonly (readonly string[])[]): void
  /** The whole answer, where `json` is set. */
  document(value: unknown): void
}

export type Sink = { readonly out: (text: string) => void; readonly err: (text: string) => void }

export function createOutput({ out, err }: Sink, json: boolean): Output {
  return {
    json,
    line: text => out(`${printable(text)}\n`),
    note: text => err(`${printable(text)}\n`),
    table: (header, rows) => out(formatTable([header, ...rows])),
    document: value => out(`${printableJson(JSON.stringify(value, null, 2))}\n`),
  }
}

export function formatTable(rows: readonly (readonly string[])[]): string {
  const shown = rows.map(row => row.map(printable))
  const widths = shown.reduce<number[]>(
    (known, row) => row.map((cell, column) => Math.max(cell.length, known[column] ?? 0)),
    [],
  )
  const formatted = shown.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  return `${formatted.join('\n')}\n`
}

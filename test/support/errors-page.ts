// The page docs/errors.md, made from the table of codes: `node test/support/errors-page.ts > docs/errors.md`.
import { CODES } from '../../shared/errors.ts'

const HEAD = `# Error codes

Each refusal of Postern has one stable code, the same in log, metric, wire and test. A log line's \`error\` says what and
where; this table says what it means and what to do. It is \`shared/errors.ts\` as a page (a test compares them).

| code | meaning | what to do |
|---|---|---|
`

export function errorsPage(): string {
  const row = ([code, { meaning, hint }]: [string, { meaning: string; hint: string }]) =>
    `| \`${code}\` | ${meaning} | ${hint} |\n`
  return HEAD + Object.entries(CODES).map(row).join('')
}

if (import.meta.main) process.stdout.write(errorsPage())

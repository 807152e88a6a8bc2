// What a run tells a reader: the machine, what was compared, what was reached, and every figure.
import type { Outcome } from './run.ts'
import { resultsTable, targetsTable } from './table.ts'
import { judge } from './targets.ts'

export function report(machine: string, outcome: Outcome): string {
  const { subjects, results, missing, failures } = outcome
  return [
    machine,
    targetsTable(judge(results)),
    'Medians of the repeats, (smallest–largest); behind Postern’s in brackets the ratio to Envoy L4 and to Envoy L7.',
    resultsTable(results),
    subjects.map(line => `- ${line}`).join('\n'),
    ...missing.map(line => `NOT MEASURED ${line}`),
    ...failures.map(line => `FAILED ${line}`),
  ].join('\n\n')
}

import t from 'tap'
import type { Result } from '../../../bench/results.ts'
import type { SubjectName } from '../../../bench/subject.ts'
import { markdownTable, resultsTable, targetsTable } from '../../../bench/table.ts'
import { judge } from '../../../bench/targets.ts'

const result = (subject: SubjectName, measure: string, value: number, spread = [value, value]): Result => ({
  subject,
  measure,
  value,
  unit: '1/s',
  spread: [spread[0] ?? value, spread[1] ?? value],
})

t.test('a table is padded, and a missing cell is empty', async t => {
  const table = markdownTable([['a', 'long head'], ['bcde'], ['f', 'g']])
  t.equal(table, '| a    | long head |\n|------|-----------|\n| bcde |           |\n| f    | g         |')
})

t.test('Postern’s figures carry their ratios to both Envoys, the others’ none', async t => {
  const table = resultsTable([
    result('direct', 'requests', 70_000),
    result('postern-l4', 'requests', 20_000, [18_000, 22_000]),
    result('envoy-l4', 'requests', 10_000),
    result('envoy-l7', 'requests', 5_000),
  ])
  t.match(table, '| requests, 1/s | 70000  | 20000 (18000–22000) [2.00× 4.00×] | 10000    | 5000     |')
})

t.test('a subject that was measured nowhere has no column, and a gap is a dash', async t => {
  const table = resultsTable([result('direct', 'a', 1), result('nginx', 'b', 2)])
  t.match(table, /^\| measure +\| direct \| nginx \|$/m)
  t.match(table, /^\| b, 1\/s +\| – +\| 2 +\|$/m)
})

t.test('the table of targets says what was reached, what is asked, and whether it was enough', async t => {
  const table = targetsTable(
    judge([
      result('postern-l4', '32 connections: requests', 250),
      result('envoy-l4', '32 connections: requests', 100),
      result('postern-l4', 'memory, idle: private', 40.04),
    ]),
  )
  t.match(
    table,
    /requests\/s at 32 connections +\| postern-l4 +\| envoy-l4 +\| 2\.500× +\| ≥ 1\.3× +\| 2× +\| aim/,
  )
  t.match(table, /private memory idle, MB +\| postern-l4 +\| – +\| 40\.0 +\| ≤ 35 +\| 25 +\| \*\*miss\*\*/)
  t.match(table, /new connections\/s .* – .* not measured/)
})

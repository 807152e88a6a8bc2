// `node bench/page.ts` puts the newest kept results into docs/performance.md, so that no figure there is typed by hand.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Result } from './results.ts'
import { targetsTable } from './table.ts'
import { judge, type Verdict } from './targets.ts'

const RESULTS = fileURLToPath(new URL('results/', import.meta.url))
const PAGE = fileURLToPath(new URL('../docs/performance.md', import.meta.url))
const [BEGIN, END] = ['<!-- results: written by bench/page.ts -->', '<!-- end of results -->']

/** The page as it is, and as the newest kept results make it. */
export function performancePage(): { readonly before: string; readonly after: string } {
  const before = readFileSync(PAGE, 'utf8')
  const [name] = readdirSync(RESULTS)
    .filter(file => file.endsWith('.json'))
    .map(file => file.slice(0, -'.json'.length))
    .sort()
    .reverse()
  if (name === undefined) throw new Error('there are no results in bench/results')
  const results: Result[] = JSON.parse(readFileSync(`${RESULTS}${name}.json`, 'utf8'))
  const [machine] = readFileSync(`${RESULTS}${name}.md`, 'utf8').split('\n')
  const link = `All figures: [bench/results/${name}.md](../bench/results/${name}.md).`
  const verdicts = judge(results)
  const part = [BEGIN, machine, targetsTable(verdicts), link, behind(verdicts), END].join('\n\n')
  const [start, end] = [before.indexOf(BEGIN), before.indexOf(END)]
  if (start < 0 || end < start) throw new Error(`${PAGE} has no place for results`)
  return { before, after: before.slice(0, start) + part + before.slice(end + END.length) }
}

/** What a reader who chooses should know first. */
function behind(verdicts: readonly Verdict[]): string {
  const misses = verdicts.filter(({ verdict }) => verdict === 'miss')
  const names = misses.map(
    ({ target: { title, against } }) => `${title}${against ? ` (against ${against})` : ''}`,
  )
  return names.length === 0 ? 'Every floor is held.' : `Behind its floor in this run: ${names.join('; ')}.`
}

if (import.meta.main) writeFileSync(PAGE, performancePage().after)

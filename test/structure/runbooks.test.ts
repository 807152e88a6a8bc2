// A runbook that nobody runs is a guess at night: each of docs/operations.md is the title of a test on a real cluster.
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { runbookBlocks } from '../cluster/runbook.ts'
import { projectRoot } from '../support/source-files.ts'

async function tested(): Promise<string[]> {
  const titles: string[] = []
  for await (const file of glob('test/{cluster,long}/runbooks*.test.ts', { cwd: projectRoot })) {
    const source = await readFile(join(projectRoot, file), 'utf8')
    for (const [, plain, quoted] of source.matchAll(
      /\brunbook\(\s*t,\s*operator,\s*(?:'([^']+)'|"([^"]+)")/g,
    ))
      titles.push(plain ?? quoted ?? '')
  }
  return titles
}

t.test('every runbook is run by one test, and every such test has its runbook', async t => {
  const page = await readFile(join(projectRoot, 'docs/operations.md'), 'utf8')
  const titles = [...page.matchAll(/^#+ Runbook: (.+)$/gm)].map(([, title]) => title)
  const withBlocks = new Set((await runbookBlocks()).map(({ heading }) => heading))
  t.ok(titles.length > 10, 'they are found')
  t.same(new Set(titles), withBlocks, 'each says what to type')
  t.same([...titles].sort(), (await tested()).sort())
})

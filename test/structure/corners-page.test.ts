// docs/corners.md says which test proves what: it names no test that is not there, and leaves out no corner and no limit.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { missingTests, namesIn, proofsIn, quotedIn } from '../support/named-tests.ts'
import { projectRoot, sourceFiles } from '../support/source-files.ts'

const page = readFileSync(join(projectRoot, 'docs/corners.md'), 'utf8')

t.test('every test that the page names exists', t => {
  const proofs = proofsIn(page)
  t.ok(proofs.length > 50)
  t.equal(
    proofs.reduce((sum, { names }) => sum + names.length, 0),
    quotedIn(page).length,
    'and each name stands behind its file',
  )
  t.same(missingTests(proofs), [])
  t.end()
})

t.test('every row of the tables is proved by a test', t => {
  const rows = page.split('\n').filter(line => /^\| (?!corner |limit )/.test(line))
  t.ok(rows.length > 40)
  for (const row of rows) t.ok(proofsIn(row).length > 0, row.slice(0, 60))
  t.end()
})

t.test('every test of test/netns/corners-* has its place on the page', t => {
  const said = quotedIn(page)
  for (const { path, text } of sourceFiles('test/netns').filter(({ path }) => path.includes('/corners-'))) {
    const nested = namesIn(text.matchAll(/^ +await t\.test\(\s*(['`])(.+?)\1,/gm))
    const listed = namesIn(text.matchAll(/^ {4}name: (')(.+)',$/gm))
    t.ok(nested.length + listed.length > 0, path)
    for (const name of [...nested, ...listed])
      t.ok(
        said.some(other => name.test(other)),
        `${path}: ${name}`,
      )
  }
  t.end()
})

t.test('every limit that the sidecar counts is on the page, and no other', t => {
  const sources = sourceFiles('proxy')
  const [union = ''] =
    /export type Limit =\n(?: {2}\| '\w+'\n)+/.exec(
      sources.find(({ path }) => path === 'proxy/tunnel/abuse.ts')?.text ?? '',
    ) ?? []
  const counted = new Set([
    ...[...union.matchAll(/'(\w+)'/g)].map(([, limit]) => limit),
    ...sources.flatMap(({ text }) => [...text.matchAll(/onLimit\('(\w+)'\)/g)].map(([, limit]) => limit)),
  ])
  const [, limits = ''] = page.split('## Limits')
  const shown = [...limits.matchAll(/`([a-z]+_[a-z_]+)`/g)]
    .map(([, label = '']) => label)
    .filter(label => !label.startsWith('postern_'))
  t.ok(counted.size > 11)
  t.same([...new Set(shown)].sort(), [...counted].sort())
  t.end()
})

// docs/spiffe.md says which rule of SPIFFE is held where: each of its rows is a test, and each such test a row.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { projectRoot } from '../support/source-files.ts'

const STANDARDS = {
  'SPIFFE-ID': 'test/unit/shared/spiffe-id.test.ts',
  'X.509-SVID': 'test/unit/shared/x509/svid-standard.test.ts',
  'SPIFFE Trust Domain and Bundle': 'test/unit/shared/spiffe-bundle.test.ts',
}

const read = (path: string) => readFileSync(join(projectRoot, path), 'utf8')
const page = read('docs/spiffe.md')

const rowsOf = (title: string): string[] => {
  const [, section = ''] = page.split(`\n## ${title}\n`)
  const [own = ''] = section.split('\n## ')
  return [...own.matchAll(/^\| ([^|]*\d[^|]*) \| ([^|]+) \| [^|]+ \|$/gm)].map(
    ([, at, rule]) => `${at}: ${rule}`,
  )
}

const testsIn = (path: string): string[] =>
  [...read(path).matchAll(/^rule\(\s*'([^']+)',\s*'([^']+)',/gm)].map(([, at, rule]) => `${at}: ${rule}`)

for (const [title, path] of Object.entries(STANDARDS))
  t.test(`the table of ${title} has a row for each test, and a test for each row`, async t => {
    const tests = testsIn(path)
    t.ok(tests.length > 15)
    t.equal(tests.length, read(path).match(/^rule\(/gm)?.length, 'every rule is seen')
    t.same(rowsOf(title), tests)
    t.ok(page.includes(path))
  })

t.test('every file and function that the page names exists', async t => {
  for (const [, path = ''] of page.matchAll(/`((?:shared|proxy|injector|test)\/[\w/.-]+\.ts)`/g))
    t.ok(read(path), path)
  const sources = ['shared/spiffe-id.ts', 'shared/x509/svid.ts', 'shared/spiffe-bundle.ts'].map(read).join('')
  for (const [, name = ''] of page.matchAll(/`([a-z]+(?:[A-Z][a-z]+)+)`/g))
    t.match(sources, new RegExp(`\\b${name}\\b`), name)
})

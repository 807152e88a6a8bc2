// docs/security.md promises a test for each attack, or says that it is not stopped: neither may be forgotten, and no test
// that it names may go away. What it says of the supply chain is read from the lockfile.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { missingTests, proofsIn, quotedIn } from '../support/named-tests.ts'
import { projectRoot } from '../support/source-files.ts'

const read = (path: string) => readFileSync(join(projectRoot, path), 'utf8')
const page = read('docs/security.md')
const isRow = (line: string) => line.startsWith('| ') && !/^\| (?:attack|who) \|/.test(line)
const isOwn = (row: string) => proofsIn(row).length > 0 || /\*\*not stopped/.test(row)

t.test('every test that the page names exists', async t => {
  const proofs = proofsIn(page)
  t.ok(proofs.length > 60)
  t.equal(
    proofs.reduce((sum, { names }) => sum + names.length, 0),
    quotedIn(page).length,
    'and each name stands behind its file',
  )
  t.same(missingTests(proofs), [])
})

t.test('a test that is not there would be found', async t => {
  const proofs = proofsIn('`unit/security` “no such test at all”; `unit/nowhere` “any test”')
  t.same(missingTests(proofs), [
    'test/unit/security.test.ts has no test “no such test at all”',
    'test/unit/nowhere.test.ts does not exist',
  ])
})

t.test('every attack has a test, or is said not to be stopped', async t => {
  const rows = page.split('\n').filter(isRow)
  t.ok(rows.length > 50)
  for (const row of rows) {
    t.equal(row.split(' | ').length, 4, `four columns: ${row.slice(0, 60)}`)
    t.ok(isOwn(row), row.slice(0, 60))
  }
  t.notOk(isOwn('| an attack | nothing | – | – |'), 'control')
})

t.test('each attacker of the threat model has its table', async t => {
  const titles = [...page.matchAll(/^## (.+)$/gm)].map(([, title]) => title)
  for (const title of [
    'A neighbouring pod',
    'A stolen token or key',
    'Whoever edits a namespace',
    'The application in the pod',
    'A malicious peer',
    'A node',
    'A partner',
    'Whoever has other rights',
  ]) {
    t.ok(titles.includes(title), title)
  }
})

t.test('packages are pinned to exact versions, and by hash in the lockfile', async t => {
  const { dependencies, devDependencies, optionalDependencies } = JSON.parse(read('package.json'))
  for (const [name, version] of Object.entries({
    ...dependencies,
    ...devDependencies,
    ...optionalDependencies,
  }))
    t.match(version, /^\d+\.\d+\.\d+$/, name)
  type Locked = { readonly integrity?: string; readonly link?: boolean; readonly inBundle?: boolean }
  const { packages } = JSON.parse(read('package-lock.json')) as { packages: Record<string, Locked> }
  const loose = Object.entries(packages).filter(
    ([path, { integrity, link, inBundle }]) =>
      path !== '' && !link && !inBundle && !integrity?.startsWith('sha512-'),
  )
  t.ok(Object.keys(packages).length > 100)
  t.same(
    loose.map(([path]) => path),
    [],
  )
})

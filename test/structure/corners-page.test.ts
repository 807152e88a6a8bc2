// docs/corners.md says which test proves what: it names no test that is not there, and leaves out no corner and no limit.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { projectRoot, sourceFiles } from '../support/source-files.ts'

const page = readFileSync(join(projectRoot, 'docs/corners.md'), 'utf8')

const QUOTED = /“([^”]+)”/g
/** A file, and the names of tests in it. */
const PROOF = /`([a-z0-9-]+(?:\/[a-z0-9-]+)+)` ((?:“[^”]+”(?:, )?)+)/g
const named = (text: string) => [...text.matchAll(QUOTED)].map(([, name = '']) => name)
const proofsIn = (text: string) =>
  [...text.matchAll(PROOF)].map(([, file = '', names = '']) => ({
    path: `test/${file}.test.ts`,
    names: named(names),
  }))

/** The text between quotes, in which whatever a template puts in may stand for anything. */
function namesIn(literals: Iterable<RegExpExecArray>): RegExp[] {
  return [...literals].map(([, , text = '']) => {
    const parts = text.split(/\$\{[^}]*\}/).map(part => RegExp.escape(part))
    return new RegExp(`^${parts.join('.+')}$`, 's')
  })
}
/** With a word of its own: a template of nothing else would be every name. */
const LITERAL = /(['"`])((?=[^'"`\n]*[a-z]{2} [a-zA-Z0-9$])[^'"`\n]+|\$\{\w+\} [a-zA-Z]+)\1/g

t.test('every test that the page names exists', t => {
  const proofs = proofsIn(page)
  t.ok(proofs.length > 50)
  t.equal(
    proofs.reduce((sum, { names }) => sum + names.length, 0),
    named(page).length,
    'and each name stands behind its file',
  )
  for (const { path, names } of proofs) {
    if (!existsSync(join(projectRoot, path))) {
      t.fail(`${path} does not exist`)
      continue
    }
    const literals = namesIn(readFileSync(join(projectRoot, path), 'utf8').matchAll(LITERAL))
    for (const name of names)
      t.ok(
        literals.some(literal => literal.test(name)),
        `${path}: ${name}`,
      )
  }
  t.end()
})

t.test('every row of the tables is proved by a test', t => {
  const rows = page.split('\n').filter(line => /^\| (?!corner |limit )/.test(line))
  t.ok(rows.length > 40)
  for (const row of rows) t.ok(proofsIn(row).length > 0, row.slice(0, 60))
  t.end()
})

t.test('every test of test/netns/corners-* has its place on the page', t => {
  const said = named(page)
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

import { readFileSync } from 'node:fs'
import t from 'tap'
import { linesOfCode, sourceFiles } from '../support/source-files.ts'

const MOST_LINES = 350

const files = sourceFiles('shared', 'proxy', 'injector', 'embedded', 'cli', 'deploy', 'bench', 'test')
const code = files.filter(({ path }) => !path.endsWith('.test.ts'))

t.test('comments and blank lines are no code', async t => {
  t.equal(linesOfCode('// why\n\n/**\n * what\n */\nconst a = 1 // note\n/* b */\n'), 1)
})

t.test(`no file has more than ${MOST_LINES} lines of code`, async t => {
  const tooLong = code
    .map(({ path, text }) => ({ path, lines: linesOfCode(text) }))
    .filter(({ lines }) => lines > MOST_LINES)
  t.same(tooLong, [])
})

t.test('the first thing in a file says why it exists', async t => {
  const silent = code.filter(({ text }) => !/^(?:#!.*\n)?\/[/*]/.test(text)).map(({ path }) => path)
  t.same(silent, [])
})

t.test('ARCHITECTURE.md names every folder', async t => {
  const page = readFileSync(new URL('../../ARCHITECTURE.md', import.meta.url), 'utf8')
  const [, ...programs] = page.split(/\(`(?=(?:proxy|injector|cli|shared)\/`\))/)
  for (const { path } of sourceFiles('proxy', 'injector', 'cli', 'shared')) {
    const [program, folder] = path.split('/')
    if (folder?.endsWith('.ts')) continue
    const about = programs.find(text => text.startsWith(`${program}/`))
    t.ok(about?.includes(`\`${folder}\``), `${program}/${folder}`)
  }
})

t.test('names are kebab-case, and nothing is called utils', async t => {
  const misnamed = files
    .map(({ path }) => path)
    .filter(path => !/^[a-z0-9/.-]+$/.test(path) || /\butils?\b|\bhelpers?\b/.test(path))
  t.same(misnamed, [])
})

t.test('no default exports and no barrels', async t => {
  const found = code.filter(({ text }) => /^export (?:default|\*)/m.test(text)).map(({ path }) => path)
  t.same(found, [])
})

t.test('nothing silences the compiler or the linter', async t => {
  const silenced = files
    .filter(
      ({ path, text }) =>
        path !== 'test/structure/files.test.ts' &&
        /@ts-(?:ignore|expect-error|nocheck)|biome-ignore/.test(text),
    )
    .map(({ path }) => path)
  t.same(silenced, [])
})

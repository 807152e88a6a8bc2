import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { CODES } from '../../shared/errors.ts'
import { errorsPage } from '../support/errors-page.ts'
import { projectRoot, sourceFiles } from '../support/source-files.ts'

t.test('docs/errors.md lists every code with its meaning and hint, and no other', async t => {
  const page = readFileSync(join(projectRoot, 'docs/errors.md'), 'utf8')
  const documented = [...page.matchAll(/^\| `(PSTN_\w+)`/gm)].map(([, code]) => code)
  t.same(documented, Object.keys(CODES))
  t.equal(page, errorsPage(), 'after a change: node test/support/errors-page.ts > docs/errors.md')
})

t.test('each code is used by the source', async t => {
  const used = sourceFiles('shared', 'proxy', 'injector', 'cli')
    .filter(({ path }) => path !== 'shared/errors.ts')
    .map(({ text }) => text)
    .join('\n')
  t.same(
    Object.keys(CODES).filter(code => !new RegExp(`\\b${code}\\b`).test(used)),
    [],
    'no code without use',
  )
})

import { readFileSync } from 'node:fs'
import t from 'tap'
import { EXPERIMENTS } from '../../../bench/experiments.ts'
import { USAGE } from '../../../bench/options.ts'
import { performancePage } from '../../../bench/page.ts'
import { SUBJECTS } from '../../../bench/subject.ts'

const page = readFileSync(new URL('../../../docs/performance.md', import.meta.url), 'utf8')

t.test('every figure on the page is of the newest results that were kept', async t => {
  const { before, after } = performancePage()
  t.equal(before, after, 'node bench/page.ts')
})

t.test('the page says what each subject is and how each experiment works', async t => {
  for (const name of SUBJECTS) t.match(page, `| \`${name}\` |`)
  for (const { name } of EXPERIMENTS)
    t.match(page, `**${name.replace(/(keep-alive|streams|fixed-rate)-\d+/, '$1-N')}**`)
})

t.test('each option that the page uses exists', async t => {
  const [, block = ''] = /```sh\n([\s\S]*?)```/.exec(page) ?? []
  const used = new Set(
    block
      .split('\n')
      .filter(line => line.startsWith('npm run bench'))
      .flatMap(line => line.replace(/#.*/, '').match(/--[a-z]+/g) ?? []),
  )
  t.ok(used.size > 4)
  for (const option of used) t.match(USAGE, `  ${option} `)
})

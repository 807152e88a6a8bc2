import t from 'tap'
import { parseOptions } from '../../../bench/options.ts'
import { SUBJECTS } from '../../../bench/subject.ts'

const EXPERIMENTS = ['idle', 'upload']
const parse = (...argv: string[]) => parseOptions(argv, EXPERIMENTS)

t.test('without options everything is measured five times', async t => {
  t.same(parse(), { effort: 'full', repeats: 5, subjects: SUBJECTS, check: false })
})

t.test('--ci measures little, and checks', async t => {
  t.match(parse('--ci'), { effort: 'ci', repeats: 2, check: true })
  t.match(parse('--quick'), { effort: 'quick', repeats: 3, check: false })
  t.match(parse('--quick', '--check', '--repeats', '7'), { repeats: 7, check: true })
})

t.test('subjects and experiments can be chosen', async t => {
  const found = parse('--only', 'envoy-l4,direct', '--measure', 'upload')
  t.same([found.subjects, found.experiments], [['envoy-l4', 'direct'], ['upload']])
})

const wrong: [string, string[], RegExp][] = [
  ['an unknown subject', ['--only', 'linkerd'], /--only: linkerd is none of direct/],
  ['an unknown experiment', ['--measure', 'idle,nothing'], /--measure: nothing is none of idle upload/],
  ['no repeats', ['--repeats', '0'], /--repeats/],
  ['an unknown option', ['--fast'], /--fast/],
]
for (const [name, argv, message] of wrong)
  t.test(`${name} is refused`, async t => {
    t.throws(() => parse(...argv), message)
  })

import t from 'tap'
import { EXPERIMENTS } from '../../../bench/experiments.ts'
import type { Result } from '../../../bench/results.ts'
import type { SubjectName } from '../../../bench/subject.ts'
import { isBroken, judge, TARGETS, type Target } from '../../../bench/targets.ts'

const more: Target = {
  title: 'rate',
  measure: 'rate',
  subject: 'postern-l4',
  against: 'envoy-l4',
  better: 'more',
  atLeast: 1.3,
  aim: 2,
}
const less: Target = { ...more, better: 'less', atLeast: 1.2, aim: 1 }
const behind: Target = { ...more, held: 1 }
const absolute: Target = {
  title: 'MB',
  measure: 'rate',
  subject: 'postern-l4',
  better: 'less',
  atLeast: 35,
  aim: 25,
}

const result = (subject: SubjectName, value: number): Result => ({
  subject,
  measure: 'rate',
  value,
  unit: '1/s',
  spread: [value, value],
})
const verdict = (target: Target, own: number, other = 100) =>
  judge([result('postern-l4', own), result('envoy-l4', other)], [target])[0]

const cases: [string, Target, number, string, boolean][] = [
  ['twice the peer reaches the aim', more, 200, 'aim', false],
  ['the floor itself passes', more, 130, 'pass', false],
  ['a little below the floor is a miss that noise may explain', more, 110, 'miss', false],
  ['more than a fifth below the floor is broken', more, 103, 'miss', true],
  ['less is better: half reaches the aim', less, 50, 'aim', false],
  ['less is better: the floor itself passes', less, 120, 'pass', false],
  ['less is better: a little above is a miss', less, 140, 'miss', false],
  ['less is better: more than a fifth above is broken', less, 151, 'miss', true],
  ['what is behind its floor, as it was, is a miss and not broken', behind, 100, 'miss', false],
  [
    'what is behind its floor, and falls back further by more than a fifth, is broken',
    behind,
    79,
    'miss',
    true,
  ],
  ['a value without a peer is compared itself', absolute, 30, 'pass', false],
  ['a value without a peer can be broken', absolute, 44, 'miss', true],
]
for (const [name, target, own, expected, broken] of cases)
  t.test(name, async t => {
    const found = verdict(target, own)
    t.equal(found?.verdict, expected)
    t.equal(found && isBroken(found), broken)
  })

t.test('what was not measured is said to be, and is not broken', async t => {
  const [found] = judge([result('postern-l4', 1)], [more])
  t.match(found, { verdict: 'not measured', reached: undefined })
  t.equal(found && isBroken(found), false)
})

t.test('a quick run measures both sides of every target', async t => {
  for (const { title, subject, against } of TARGETS) {
    const together = EXPERIMENTS.filter(
      ({ quick }) => quick.includes(subject) && (against === undefined || quick.includes(against)),
    )
    t.ok(together.length > 0, `${title}: ${subject}, ${against}`)
  }
})

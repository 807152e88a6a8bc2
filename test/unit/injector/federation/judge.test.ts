// What an answer changes, and when the next question is due.
import t from 'tap'
import { type Answer, judge, pauseMs } from '../../../../injector/federation/judge.ts'
import type { FetchedBundle } from '../../../../shared/federation/fetched.ts'

const URL = 'https://partner.example/'
const T0 = Date.parse('2026-01-01T00:00:00Z')
const at = (seconds: number) => new Date(T0 + seconds * 1000).toISOString()
const bundle = (roots: string[], more: object = {}): Answer => ({
  kind: 'bundle',
  bundle: { trustDomain: 'partner.example', roots, ...more },
})
const down: Answer = { kind: 'failure', code: 'PSTN_PARTNER_UNREACHABLE', reason: 'it answered 503' }
const after = (former: FetchedBundle | undefined, ...answers: Answer[]) =>
  answers.reduce<FetchedBundle | undefined>(
    (known, answer, index) => judge(known, URL, answer, T0 + index * 1000),
    former,
  )
const GOOD: FetchedBundle = { url: URL, roots: ['A'], sequence: '7', fetchedAt: at(-60) }

t.test('the first bundle is taken', async t => {
  t.strictSame(after(undefined, bundle(['A'], { sequence: 7n, refreshHintSeconds: 600 })), {
    url: URL,
    roots: ['A'],
    sequence: '7',
    refreshHintSeconds: 600,
    fetchedAt: at(0),
  })
})

t.test('failures keep the last good one and are counted in a row', async t => {
  t.strictSame(after(GOOD, down, down, down), {
    ...GOOD,
    failure: { code: 'PSTN_PARTNER_UNREACHABLE', reason: 'it answered 503', since: at(0), failures: 3 },
  })
  t.notOk('failure' in (after(GOOD, down, bundle(['B'], { sequence: 8n })) ?? {}), 'and forgotten')
  t.match(after(undefined, down), { roots: [], failure: { failures: 1 } }, 'without one there is nobody')
})

t.test('a sequence that goes back is taken at its third answer in a row alone', async t => {
  const older = bundle(['old'], { sequence: 5n })
  t.match(after(GOOD, older), {
    roots: ['A'],
    sequence: '7',
    older: 1,
    failure: { code: 'PSTN_PARTNER_STALE' },
  })
  t.match(after(GOOD, older, down, older), { roots: ['A'], older: 2, failure: { failures: 3 } })
  t.strictSame(after(GOOD, older, down, older, older), {
    url: URL,
    roots: ['old'],
    sequence: '5',
    fetchedAt: at(3),
    pacedUntil: at(3 + 600),
  })
  const flapping = after(GOOD, older, older, bundle(['A'], { sequence: 7n }), older)
  t.match(flapping, { roots: ['A'], older: 1 }, 'a cache that comes round')
})

t.test('numbers are compared as 64 bits, and without them the latest holds', async t => {
  const big = { ...GOOD, sequence: '18446744073709551615' }
  t.match(after(big, bundle(['B'], { sequence: 18446744073709551614n })), { roots: ['A'] })
  t.match(after(GOOD, bundle(['B'])), { roots: ['B'] })
  t.match(after({ url: URL, roots: ['A'] }, bundle(['B'], { sequence: 1n })), { roots: ['B'] })
})

t.test('another URL: what is known stays until it answers, and its sequence is its own', async t => {
  const other = { ...GOOD, url: 'https://former.example/', older: 2 }
  t.strictSame(after(other, down), {
    url: URL,
    roots: ['A'],
    fetchedAt: at(-60),
    failure: { code: 'PSTN_PARTNER_UNREACHABLE', reason: 'it answered 503', since: at(0), failures: 1 },
  })
  t.match(after(other, down, bundle(['B'], { sequence: 1n })), { roots: ['B'], sequence: '1' })
})

t.test('a bundle that changes with each answer: six changes at once, then one in ten minutes', async t => {
  let known: FetchedBundle | undefined
  const changes: number[] = []
  for (let minute = 0; minute < 120; minute += 1) {
    const next = judge(known, URL, bundle([`root ${minute}`]), T0 + minute * 60_000)
    if (next.roots !== known?.roots) changes.push(minute)
    else t.match(next.failure, { code: 'PSTN_PARTNER_UNSETTLED', reason: /the next change is taken at 2026/ })
    known = next
  }
  // The first bundle, six changes, and what ten minutes each have paid for: the seventh when the first change is.
  t.same(changes.slice(0, 9), [0, 1, 2, 3, 4, 5, 6, 11, 21])
  t.equal(changes.length, 18)
  const settled = judge(known, URL, bundle(known?.roots as string[]), T0 + 120 * 60_000)
  t.notOk(settled.failure, 'what it says is what is known: nothing is held back')
  t.match(judge(settled, URL, bundle(['last']), T0 + 300 * 60_000), {
    roots: ['last'],
    pacedUntil: at(310 * 60),
  })
})

t.test('a change of the order is none, and neither is a first bundle nor another URL', async t => {
  const two = { ...GOOD, roots: ['A', 'B'] }
  t.equal(after(two, bundle(['B', 'A'], { sequence: 8n }))?.roots, two.roots)
  t.match(after(two, bundle(['B', 'A', 'C'], { sequence: 8n })), { roots: ['B', 'A', 'C'] }, 'control')
  const owing = { ...two, url: 'https://former.example/', pacedUntil: at(3600) }
  t.strictSame(after(owing, bundle(['C'])), { url: URL, roots: ['C'], fetchedAt: at(0) })
})

t.test('a clock that is set back holds no change for longer than ten minutes', async t => {
  const owing = { ...GOOD, pacedUntil: at(86_400) }
  t.match(after(owing, bundle(['B'], { sequence: 8n })), {
    roots: ['A'],
    failure: {
      code: 'PSTN_PARTNER_UNSETTLED',
      reason: `its roots change too often: the next change is taken at ${at(600)}`,
    },
  })
  let known: FetchedBundle = owing
  let takenAfter = 0
  for (let minute = 0; known.roots[0] !== 'B' && minute < 60; minute += 1) {
    takenAfter = minute
    known = judge(known, URL, bundle(['B'], { sequence: 8n }), T0 + minute * 60_000)
  }
  t.equal(takenAfter, 10, 'although each answer until then was another change held back')
})

t.test('the interval is the hint, within a minute and an hour, else five minutes', async t => {
  const seconds = (refreshHintSeconds?: number) =>
    pauseMs({ url: URL, roots: [], ...(refreshHintSeconds !== undefined && { refreshHintSeconds }) }, 0) /
    1000
  t.same([seconds(), seconds(0), seconds(59), seconds(600), seconds(1e9)], [300, 60, 60, 600, 3600])
  t.equal(pauseMs(GOOD, 0.999), Math.round(300_000 * (1 - 0.0999)), 'up to a tenth early')
})

t.test('after failures sooner, and never later than without', async t => {
  const pauses = [1, 2, 3, 5, 10, 50].map(
    failures =>
      pauseMs({ ...GOOD, failure: { code: 'x', reason: '', since: at(0), failures } }, 0.999) / 1000,
  )
  t.same(pauses.map(Math.round), [10, 20, 40, 160, 300, 300])
  const held = { code: 'PSTN_PARTNER_UNSETTLED', reason: '', since: at(0), failures: 1 }
  t.equal(pauseMs({ ...GOOD, failure: held }, 0), 300_000, 'what answers is not asked sooner')
})

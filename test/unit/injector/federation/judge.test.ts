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
})

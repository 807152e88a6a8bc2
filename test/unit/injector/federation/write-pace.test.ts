// How often what one endpoint says is written down, whatever it says.
import t from 'tap'
import { createWritePace } from '../../../../injector/federation/write-pace.ts'
import type { FetchedBundle } from '../../../../shared/federation/fetched.ts'

const MINUTE = 60_000
const bundle = (minute: number, more: Partial<FetchedBundle> = {}): FetchedBundle => ({
  url: 'https://partner.example/',
  roots: ['A'],
  fetchedAt: new Date(minute * MINUTE).toISOString(),
  ...more,
})

/** The minutes at which something was written, of an endpoint that is asked each minute. */
function written(minutes: number, said: (minute: number) => FetchedBundle): number[] {
  let now = 0
  let present: FetchedBundle | undefined
  const pace = createWritePace(() => now)
  return Array.from({ length: minutes }, (_, minute) => minute).filter(minute => {
    now = minute * MINUTE
    const next = said(minute)
    const worth = pace.worthOf(present, next)
    pace.settle(next, worth)
    if (worth !== 'nothing') present = next
    return worth !== 'nothing'
  })
}

t.test('a bundle that stays as it is: its age, every few minutes', async t => {
  t.same(written(20, bundle), [0, 4, 8, 12, 16])
})

t.test('another root, or another URL of the document: at once', async t => {
  t.same(
    written(6, minute => bundle(0, { roots: [`${minute}`] })),
    [0, 1, 2, 3, 4, 5],
  )
  t.same(
    written(3, minute => bundle(0, { url: `https://${minute}` })),
    [0, 1, 2],
  )
})

t.test('whatever else is new each minute: six at once, then one in ten minutes', async t => {
  const six = [0, 1, 2, 3, 4, 5, 6]
  const failing = (minute: number) => ({ code: 'x', reason: '', since: '', failures: minute })
  const each = { of: (minute: number) => ({ sequence: `${minute}` }), name: 'its sequence' }
  const failed = { of: (minute: number) => ({ failure: failing(minute) }), name: 'its failures' }
  const hints = { of: (minute: number) => ({ refreshHintSeconds: minute }), name: 'its hint' }
  for (const { of, name } of [each, failed, hints]) {
    const minutes = written(24 * 60, minute => bundle(0, of(minute)))
    t.same(minutes.slice(0, 9), [...six, 11, 21], name)
    t.equal(minutes.length, 6 + 24 * 6, `${name}: of 1,440 in a day`)
  }
})

t.test('what is not written is remembered, and what another wrote since holds', async t => {
  const pace = createWritePace(() => 0)
  const [first, second] = [bundle(0), bundle(1)]
  t.equal(pace.known(undefined), undefined)
  pace.settle(first, 'free')
  pace.settle(second, 'nothing')
  t.equal(pace.known({ ...first }), second)
  const others = bundle(0, { roots: ['B'] })
  t.equal(pace.known(others), others)
  t.equal(pace.known(undefined), undefined, 'gone: nothing of it is known')
})

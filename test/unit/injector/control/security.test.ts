// A sidecar that floods its control stream.
import t from 'tap'
import { createPace, PACE } from '../../../../injector/control/pace.ts'

const MIB = 1024 * 1024

t.test('a sidecar that says more than its share is read later, one that does not never waits', async t => {
  let now = 0
  const pace = createPace({ monotonic: () => now })
  /** Lines of this length, one each `everyMs`, and what is waited for besides: the share of time that passes waiting. */
  const waiting = (length: number, everyMs: number, lines: number) => {
    const start = now
    let waited = 0
    for (let line = 0; line < lines; line += 1) {
      const ms = pace(length)
      waited += ms
      now += ms + everyMs
    }
    return { waited, perSecond: (lines * length * 1000) / (now - start) }
  }
  t.equal(waiting(250_000, 0, 16).waited, 0, 'at the start all addresses are met at once')
  now += 10_000
  t.equal(waiting(250_000, 500, 100).waited, 0, 'and then two a second, for ever')
  now += 10_000
  const flood = waiting(MIB, 0, 100)
  t.ok(flood.perSecond < 1.1 * PACE.bytesPerSecond, `${Math.round(flood.perSecond)} bytes a second`)
  now += 10_000
  const crumbs = waiting(2, 0, 100_000)
  t.ok(crumbs.perSecond / 2 < 600, `${Math.round(crumbs.perSecond / 2)} lines a second`)
  t.equal(pace(MIB) > 0, true, 'what is owed is not forgotten at once')
  now += 10_000
  t.equal(pace(MIB), 0, 'but in time')
})

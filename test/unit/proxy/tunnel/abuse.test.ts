import t from 'tap'
import { Allowed } from '../../../../proxy/tunnel/abuse.ts'

t.test('a burst is allowed, and then so many a second', async t => {
  const allowed = new Allowed({ burst: 3, perSecond: 10 }, 0)
  const at = (now: number) => allowed.take(now)
  t.same([0, 0, 0, 0].map(at), [true, true, true, false])
  t.same([100, 100].map(at), [true, false])
  t.same(
    [10_000, 10_000, 10_000, 10_000].map(at),
    [true, true, true, false],
    'a rest fills it up, and no further',
  )
})

import t from 'tap'
import { eventLimiter } from '../../../../injector/events/limiter.ts'

t.test('the same event is written once in its time', async t => {
  const may = eventLimiter({ repeatMs: 1000, perMinute: 100, perNamespace: 100 })
  const shop = (what: string, now: number) => may('shop', what, now)
  t.strictSame([shop('a', 0), shop('a', 999), shop('b', 999), shop('a', 1000)], [true, false, true, true])
  t.ok(may('bank', 'a', 0), 'about another namespace it is another')
})

t.test('a flood of different events ends at the limit of the minute', async t => {
  const may = eventLimiter({ repeatMs: 1000, perMinute: 2, perNamespace: 2 })
  const shop = (what: string, now: number) => may('shop', what, now)
  t.strictSame([shop('a', 0), shop('b', 1), shop('c', 2), shop('c', 60_000)], [true, true, false, true])
})

t.test('one noisy namespace has its share, and however many there are, each other has its first', async t => {
  const may = eventLimiter({ repeatMs: 0, perMinute: 60, perNamespace: 20 })
  const flood = (namespace: string) =>
    Array.from({ length: 1_000 }, (_, n) => may(namespace, `pod-${n}`, 0)).filter(Boolean).length
  t.equal(flood('noisy'), 20)
  t.equal(flood('shop'), 20, 'the share of another is untouched')
  for (let n = 0; n < 50; n++) flood(`noisy-${n}`)
  t.ok(may('quiet', 'pod-0', 0))
  t.notOk(may('quiet', 'pod-1', 0), 'but no more than that')
  for (let n = 0; n < 1_000; n++) may(`made-${n}`, 'pod-0', 0)
  t.notOk(may('one-of-thousands', 'pod-0', 0), 'whoever makes namespaces does not flood etcd either')
})

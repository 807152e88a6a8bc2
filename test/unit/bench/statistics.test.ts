import t from 'tap'
import { percentile, summarize } from '../../../bench/statistics.ts'

t.test('the median of an odd number of repeats is the middle one, whatever their order', async t => {
  t.same(summarize([30, 10, 20]), { median: 20, min: 10, max: 30, count: 3 })
})

t.test('the median of an even number of repeats is between the middle two', async t => {
  t.same(summarize([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4, count: 4 })
})

t.test('one repeat is its own median and spread', async t => {
  t.same(summarize([7]), { median: 7, min: 7, max: 7, count: 1 })
})

t.test('what was not measured has neither median nor percentile', async t => {
  t.throws(() => summarize([]), RangeError)
  t.throws(() => percentile([], 0.5), RangeError)
})

t.test('a percentile is a value that was measured', async t => {
  const values = Array.from({ length: 100 }, (_, i) => 100 - i)
  t.equal(percentile(values, 0.5), 50)
  t.equal(percentile(values, 0.99), 99)
  t.equal(percentile(values, 0.999), 100)
  t.equal(percentile(values, 0), 1)
  t.equal(percentile([5], 0.99), 5)
})

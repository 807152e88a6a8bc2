import t from 'tap'
import { createRecorder, medianOf } from '../../../bench/results.ts'

t.test('repeats of one measure of one subject become one result with its spread', async t => {
  const recorder = createRecorder()
  for (const value of [3, 1, 2]) recorder.record('envoy-l4', [{ measure: 'requests', value, unit: '1/s' }])
  recorder.record('postern-l4', [{ measure: 'requests', value: 123_456, unit: '1/s' }])
  const results = recorder.results()
  t.same(results, [
    { subject: 'envoy-l4', measure: 'requests', unit: '1/s', value: 2, spread: [1, 3] },
    { subject: 'postern-l4', measure: 'requests', unit: '1/s', value: 123_500, spread: [123_500, 123_500] },
  ])
  t.equal(medianOf(results, 'envoy-l4', 'requests'), 2)
  t.equal(medianOf(results, 'haproxy', 'requests'), undefined)
})

import t from 'tap'
import { createRegistry } from '../../../shared/metrics.ts'

const sample = (text: string, name: string) =>
  text.split('\n').filter(line => line.startsWith(name) && !line.startsWith('#'))

t.test('a counter adds up per label set and renders with help and type', async t => {
  const registry = createRegistry()
  const refused = registry.counter('postern_refused_total', 'Refusals.', ['code'])
  refused.inc({ code: 'PSTN_LIMIT' })
  refused.inc({ code: 'PSTN_LIMIT' }, 2)
  refused.inc({ code: 'PSTN_LOOP' })
  const text = registry.render()
  t.match(text, '# HELP postern_refused_total Refusals.\n# TYPE postern_refused_total counter\n')
  t.same(sample(text, 'postern_refused_total'), [
    'postern_refused_total{code="PSTN_LIMIT"} 3',
    'postern_refused_total{code="PSTN_LOOP"} 1',
  ])
  t.ok(text.endsWith('\n'))
})

t.test('a counter that would go down is refused', async t => {
  const counter = createRegistry().counter('x_total', 'X.')
  t.throws(() => counter.inc({}, -1), RangeError)
  t.throws(() => counter.inc({}, Number.NaN), RangeError)
})

t.test('label values and help are escaped', async t => {
  const registry = createRegistry()
  registry.gauge('x', 'back\\slash and\nnewline', ['v']).set({ v: 'a"b\\c\nd' }, 1)
  const text = registry.render()
  t.match(text, '# HELP x back\\\\slash and\\nnewline\n')
  t.same(sample(text, 'x{'), ['x{v="a\\"b\\\\c\\nd"} 1'])
})

t.test('label values that differ only by a separator stay apart', async t => {
  const registry = createRegistry()
  const gauge = registry.gauge('x', 'X.', ['a', 'b'])
  gauge.set({ a: '1",b="2', b: '3' }, 1)
  gauge.set({ a: '1', b: '2",b="3' }, 2)
  t.equal(sample(registry.render(), 'x{').length, 2)
})

t.test('a gauge with a callback reports what the callback sets, and nothing that is gone', async t => {
  const registry = createRegistry()
  let pods = ['a', 'b']
  registry.gauge('pods', 'Pods.', ['name'], gauge => {
    for (const name of pods) gauge.set({ name }, 1)
  })
  t.same(sample(registry.render(), 'pods{'), ['pods{name="a"} 1', 'pods{name="b"} 1'])
  pods = ['b']
  t.same(sample(registry.render(), 'pods{'), ['pods{name="b"} 1'])
})

t.test('infinite and absent values have the names that Prometheus reads', async t => {
  const registry = createRegistry()
  const gauge = registry.gauge('x', 'X.', ['v'])
  gauge.set({ v: 'p' }, Infinity)
  gauge.set({ v: 'n' }, -Infinity)
  gauge.set({ v: 'a' }, Number.NaN)
  t.same(sample(registry.render(), 'x{'), ['x{v="p"} +Inf', 'x{v="n"} -Inf', 'x{v="a"} NaN'])
})

t.test('a histogram has cumulative buckets, a sum and a count', async t => {
  const registry = createRegistry()
  const histogram = registry.histogram('d_seconds', 'D.', ['direction'], [0.1, 1])
  for (const value of [0.05, 0.1, 0.5, 7]) histogram.observe({ direction: 'in' }, value)
  t.same(sample(registry.render(), 'd_seconds'), [
    'd_seconds_bucket{direction="in",le="0.1"} 2',
    'd_seconds_bucket{direction="in",le="1"} 3',
    'd_seconds_bucket{direction="in",le="+Inf"} 4',
    'd_seconds_sum{direction="in"} 7.65',
    'd_seconds_count{direction="in"} 4',
  ])
})

t.test('a histogram without labels has le alone', async t => {
  const registry = createRegistry()
  registry.histogram('d', 'D.', [], [1]).observe({}, 1)
  t.same(sample(registry.render(), 'd'), [
    'd_bucket{le="1"} 1',
    'd_bucket{le="+Inf"} 1',
    'd_sum 1',
    'd_count 1',
  ])
})

t.test('series beyond the cap are dropped and counted, while known ones go on', async t => {
  const registry = createRegistry(2)
  const counter = registry.counter('x_total', 'X.', ['peer'])
  for (const peer of ['a', 'b', 'c', 'd', 'a']) counter.inc({ peer })
  const text = registry.render()
  t.same(sample(text, 'x_total'), ['x_total{peer="a"} 2', 'x_total{peer="b"} 1'])
  t.same(sample(text, 'postern_metrics_dropped_total'), ['postern_metrics_dropped_total{metric="x_total"} 2'])
})

t.test('more metrics may drop samples than one metric may hold series', async t => {
  const registry = createRegistry(1)
  for (const name of ['x', 'y', 'z']) {
    const gauge = registry.gauge(name, 'A gauge.', ['n'])
    gauge.set({ n: '1' }, 1)
    gauge.set({ n: '2' }, 1)
  }
  t.equal(sample(registry.render(), 'postern_metrics_dropped_total').length, 3)
})

t.test('series that a callback drops are counted in the same answer', async t => {
  const registry = createRegistry(1)
  registry.gauge('x', 'X.', ['n'], gauge => {
    gauge.set({ n: '1' }, 1)
    gauge.set({ n: '2' }, 1)
  })
  t.same(sample(registry.render(), 'postern_metrics_dropped_total'), [
    'postern_metrics_dropped_total{metric="x"} 1',
  ])
})

t.test('a metric defined twice, a bad name and unordered buckets are refused', async t => {
  const registry = createRegistry()
  registry.counter('x_total', 'X.')
  t.throws(() => registry.gauge('x_total', 'X.'), /defined twice/)
  t.throws(() => registry.counter('x-total', 'X.'), /not a metric/)
  t.throws(() => registry.counter('y_total', 'Y.', ['a-b']), /not a metric/)
  t.throws(() => registry.histogram('h', 'H.', [], [2, 1]), /do not ascend/)
})

t.test('a series that was found once counts as its labels do, within the cap', async t => {
  const registry = createRegistry(1)
  const counter = registry.counter('x_total', 'X.', ['v'])
  const histogram = registry.histogram('d', 'D.', ['v'], [1])
  const [first, second] = ['a', 'b'].map(v => counter.series({ v }))
  first?.inc()
  first?.inc(2)
  counter.inc({ v: 'a' })
  second?.inc()
  t.throws(() => first?.inc(-1), RangeError)
  histogram.series({ v: 'a' }).observe(0.5)
  histogram.observe({ v: 'a' }, 2)
  const text = registry.render()
  t.same(sample(text, 'x_total{'), ['x_total{v="a"} 4'])
  t.same(sample(text, 'd_count{'), ['d_count{v="a"} 2'])
  t.same(sample(text, 'postern_metrics_dropped_total{'), [
    'postern_metrics_dropped_total{metric="x_total"} 1',
  ])
})

t.test('who wants to know of a collection is told before anything is rendered', async t => {
  const registry = createRegistry()
  const counter = registry.counter('x_total', 'X.')
  registry.onCollect(() => counter.inc({}, 5))
  t.same(sample(registry.render(), 'x_total'), ['x_total 5'])
  t.same(sample(registry.render(), 'x_total'), ['x_total 10'])
})

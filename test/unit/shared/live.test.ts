import t from 'tap'
import { derived, live, until } from '../../../shared/live.ts'

t.test('listeners hear each change in order of subscription, until they stop', async t => {
  const value = live(0)
  const heard: string[] = []
  const stop = value.subscribe(now => heard.push(`a${now}`))
  value.subscribe(now => heard.push(`b${now}`))
  value.set(1)
  stop()
  value.set(2)
  t.same(heard, ['a1', 'b1', 'b2'])
})

t.test('a listener that throws keeps no other from hearing, and whoever set is told', async t => {
  const value = live(0)
  const heard: number[] = []
  value.subscribe(() => {
    throw new Error('first')
  })
  value.subscribe(now => heard.push(now))
  t.throws(() => value.set(1), { message: 'first' })
  t.same(heard, [1])
  value.subscribe(() => {
    throw new Error('second')
  })
  t.throws(() => value.set(2), { errors: [{ message: 'first' }, { message: 'second' }] })
  t.same(heard, [1, 2])
  t.equal(value.get(), 2)
})

t.test('a change made by a listener is the last that anybody hears', async t => {
  const value = live(0)
  const heard: string[] = []
  value.subscribe(now => {
    heard.push(`a${now}`)
    if (now === 1) value.set(2)
  })
  value.subscribe(now => heard.push(`b${now}`))
  value.set(1)
  t.same(heard, ['a1', 'a2', 'b2'])
})

t.test('who was stopped by another listener hears nothing more', async t => {
  const value = live(0)
  const heard: number[] = []
  value.subscribe(() => stop())
  const stop = value.subscribe(now => heard.push(now))
  value.set(1)
  t.same(heard, [])
})

t.test('who subscribes within a change hears the next', async t => {
  const value = live(0)
  const heard: number[] = []
  const stop = value.subscribe(() => {
    stop()
    value.subscribe(now => heard.push(now))
  })
  value.set(1)
  value.set(2)
  t.same(heard, [2])
})

t.test('until takes the present value, a later one, or the abort', async t => {
  const value = live(1)
  const is =
    (wanted: number) =>
    (now: number): now is number =>
      now === wanted
  const { signal } = new AbortController()
  t.equal(await until(value, is(1), signal), 1)
  const later = until(value, is(3), signal)
  value.set(2)
  value.set(3)
  value.set(4)
  t.equal(await later, 3)
  await t.rejects(until(value, is(9), AbortSignal.abort(new Error('over'))), { message: 'over' })
})

t.test('what is derived is computed once at each change of any source', async t => {
  const [a, b] = [live(1), live(2)]
  let computed = 0
  const sum = derived([a, b], () => {
    computed += 1
    return a.get() + b.get()
  })
  const heard: number[] = []
  sum.subscribe(value => heard.push(value))
  a.set(5)
  b.set(7)
  t.same([sum.get(), sum.get(), ...heard], [12, 12, 7, 12])
  t.equal(computed, 3)
})

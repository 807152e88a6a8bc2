import t from 'tap'
import { Ending } from '../../../shared/ending.ts'

t.test('an ending is told once, with its reason, to those that listen', async t => {
  const ending = new Ending()
  const heard: unknown[] = []
  const listener = () => heard.push(ending.reason)
  ending.addEventListener('abort', listener)
  ending.addEventListener('abort', listener)
  t.equal(ending.aborted, false)
  ending.abort('first')
  ending.abort('second')
  ending.addEventListener('abort', listener)
  t.same(heard, ['first'])
  t.match(ending, { aborted: true, reason: 'first' })
})

t.test('who has stopped listening is not told, even by another listener', async t => {
  const ending = new Ending()
  const never = () => t.fail('told')
  ending.addEventListener('abort', () => ending.removeEventListener('abort', never))
  ending.addEventListener('abort', never)
  ending.abort('why')
  t.equal(ending.aborted, true)
})

t.test('every listener is told, whatever another throws, and what they threw is thrown', async t => {
  for (const failures of [1, 2]) {
    const ending = new Ending()
    let told = 0
    for (let count = 0; count < 3; count += 1)
      ending.addEventListener('abort', () => {
        told += 1
        if (count < failures) throw new Error(`listener ${count}`)
      })
    const expected = failures === 1 ? { message: 'listener 0' } : { errors: [{}, {}] }
    t.throws(() => ending.abort('why'), expected)
    t.equal(told, 3)
  }
})

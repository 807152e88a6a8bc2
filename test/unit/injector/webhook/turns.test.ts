import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { createTurns } from '../../../../injector/webhook/turns.ts'

/** Nothing else happens meanwhile, as while YAML is read. */
const busy = (ms: number) => {
  const end = performance.now() + ms
  while (performance.now() < end);
}

const whose = (caller: string) => ({ caller, group: 'x', first: false })

t.test(
  'a caller that costs little goes before one that has cost much, and within one caller a group',
  async t => {
    const turns = createTurns()
    const order: string[] = []
    const ask = (caller: string, group: string, ms: number) =>
      turns.take({ caller, group, first: caller === 'known' }, async () => {
        busy(ms)
        order.push(`${caller}/${group}`)
      })
    const flood = Array.from({ length: 6 }, () => ask('pod', 'x', 20))
    const api = [ask('api', 'noisy', 5), ask('api', 'noisy', 5), ask('api', 'shop', 1)]
    await Promise.all([...flood, ...api])
    t.same(order.slice(0, 4), ['pod/x', 'api/noisy', 'api/shop', 'api/noisy'])
    order.length = 0
    await ask('known', 'x', 30)
    const another = ask('api', 'x', 1)
    const fresh = ['a', 'b', 'c', 'd'].map(caller => ask(caller, 'x', 5))
    await Promise.all([another, ...fresh, ask('known', 'x', 1)])
    t.same(
      order.slice(0, 3),
      ['known/x', 'a/x', 'known/x'],
      'one that is known before those that have cost nothing, but for one turn after a dear one of its own',
    )
  },
)

t.test('a caller that goes first and is dear lets one of the others in between', async t => {
  const turns = createTurns()
  const order: string[] = []
  const ask = (caller: string, first: boolean, ms: number) =>
    turns.take({ caller, group: 'x', first }, async () => {
      busy(ms)
      order.push(caller)
    })
  const flood = Array.from({ length: 4 }, () => ask('known', true, 20))
  await Promise.all([...flood, ask('unknown', false, 20), ask('unknown', false, 20)])
  t.same(order, ['known', 'unknown', 'known', 'unknown', 'known', 'known'])
  await ask('unknown', false, 20)
  order.length = 0
  await Promise.all([
    ask('known', true, 0),
    ask('unknown', false, 0),
    ask('known', true, 0),
    ask('known', true, 0),
  ])
  t.same(order, ['known', 'known', 'known', 'unknown'], 'what is cheap owes nobody anything')
})

t.test('the event loop has as long in between as a review took', async t => {
  const turns = createTurns()
  let longest = 0
  let last = performance.now()
  const beat = setInterval(() => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  }, 5)
  const started = performance.now()
  await Promise.all(Array.from({ length: 10 }, () => turns.take(whose('pod'), async () => busy(40))))
  clearInterval(beat)
  t.ok(longest < 120, `${longest} ms without a heartbeat`)
  t.ok(performance.now() - started > 10 * 40 * 1.5, 'half of the time at most is spent on reviews')
})

t.test('what fails is told to its caller, and the others go on', async t => {
  const turns = createTurns()
  await t.rejects(
    turns.take(whose('a'), () => Promise.reject(new Error('no'))),
    /no/,
  )
  t.equal(await turns.take(whose('a'), async () => 7), 7)
  await delay(5)
  t.equal(await turns.take(whose('b'), async () => 8), 8)
})

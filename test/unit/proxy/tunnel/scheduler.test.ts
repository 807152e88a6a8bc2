import t from 'tap'
import { QUANTUM, Scheduler, Turn } from '../../../../proxy/tunnel/scheduler.ts'

type Stream = { readonly name: string; readonly turn: Turn; readonly sendable: boolean; left: number }

const stream = (name: string, left: number): Stream => ({
  name,
  turn: new Turn(),
  left,
  get sendable() {
    return this.left > 0
  },
})

/** Serves `room` bytes and tells who sent how many, in order. */
function serve(scheduler: Scheduler<Stream>, room: number): [name: string, bytes: number][] {
  const order: [string, number][] = []
  scheduler.serve(room, (flow, most) => {
    const sent = Math.min(most, flow.left)
    flow.left -= sent
    order.push([flow.name, sent])
    return sent
  })
  return order
}

const bulk = (name: string) => stream(name, 100 * QUANTUM)

t.test('a stream that is alone has all of the room', async t => {
  const scheduler = new Scheduler<Stream>()
  scheduler.add(bulk('a'))
  t.same(serve(scheduler, 5 * QUANTUM), [['a', 5 * QUANTUM]])
  t.same(serve(scheduler, 10), [['a', 10]])
})

t.test('bulk takes turns by bytes, over several rounds of serving', async t => {
  const scheduler = new Scheduler<Stream>()
  for (const name of ['a', 'b', 'c']) scheduler.add(bulk(name))
  const sent = { a: 0, b: 0, c: 0 }
  for (let round = 0; round < 50; round += 1) {
    for (const [name, bytes] of serve(scheduler, 1.5 * QUANTUM)) sent[name as keyof typeof sent] += bytes
  }
  for (const bytes of Object.values(sent)) t.ok(Math.abs(bytes - 25 * QUANTUM) <= 2 * QUANTUM, `${bytes}`)
})

t.test('a small write comes before all bulk', async t => {
  const scheduler = new Scheduler<Stream>()
  for (const name of ['a', 'b', 'c']) scheduler.add(bulk(name))
  serve(scheduler, 7 * QUANTUM)
  scheduler.add(stream('small', 100))
  t.same(serve(scheduler, QUANTUM)[0], ['small', 100])
})

t.test('a stream that always has a little more does not starve bulk', async t => {
  const scheduler = new Scheduler<Stream>()
  scheduler.add(bulk('bulk'))
  const chatty = stream('chatty', 1000)
  let sent = 0
  for (let round = 0; round < 100; round += 1) {
    chatty.left = 1000
    scheduler.add(chatty)
    for (const [name, bytes] of serve(scheduler, 2000)) if (name === 'bulk') sent += bytes
  }
  t.ok(sent >= 100 * 900, `${sent} of ${100 * 2000}`)
})

t.test('many new streams are served before a round of bulk, in order', async t => {
  const scheduler = new Scheduler<Stream>()
  scheduler.add(bulk('a'))
  scheduler.add(bulk('b'))
  serve(scheduler, 4 * QUANTUM)
  for (let index = 0; index < 5; index += 1) scheduler.add(stream(`s${index}`, 10))
  t.same(
    serve(scheduler, 50).map(([name]) => name),
    ['s0', 's1', 's2', 's3', 's4'],
  )
})

t.test('what nobody can send now stays, and keeps its turn', async t => {
  const scheduler = new Scheduler<Stream>()
  const a = bulk('a')
  scheduler.add(a)
  let asked = 0
  scheduler.serve(QUANTUM, () => {
    asked += 1
    return 0
  })
  t.equal(asked, 1)
  t.same(serve(scheduler, 10), [['a', 10]])
})

t.test('a stream that cannot send any more is dropped, and may come back', async t => {
  const scheduler = new Scheduler<Stream>()
  const a = stream('a', 10)
  scheduler.add(a)
  a.left = 0
  t.same(serve(scheduler, 100), [])
  a.left = 5
  scheduler.add(a)
  scheduler.add(a)
  t.same(serve(scheduler, 100), [['a', 5]])
})

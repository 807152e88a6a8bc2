import t from 'tap'
import { Allowance, ReceiveWindow, SendWindow } from '../../../../proxy/tunnel/flow-control.ts'

t.test('a peer may send what it was granted, and no byte more', async t => {
  const window = new ReceiveWindow(100)
  t.ok(window.receive(60))
  t.ok(window.receive(40))
  t.notOk(window.receive(1))
})

t.test('credit comes back when half of the window has been consumed, not when it was received', async t => {
  const window = new ReceiveWindow(100)
  window.receive(100)
  t.equal(window.consume(49), 0)
  t.equal(window.consume(1), 50)
  t.equal(window.consume(50), 50)
  t.ok(window.receive(100))
  t.notOk(window.receive(1))
})

t.test('what is granted and what is held never exceed the limit in sum', async t => {
  const window = new ReceiveWindow(1000)
  let [granted, held] = [1000, 0]
  for (let step = 0; step < 2000; step += 1) {
    const bytes = Math.min(granted, (step * 37) % 113)
    if (!window.receive(bytes)) t.fail(`${bytes} of ${granted} refused`)
    granted -= bytes
    held += bytes
    const consumed = Math.min(held, (step * 53) % 127)
    held -= consumed
    granted += window.consume(consumed)
    if (granted + held > 1000) t.fail(`${granted} granted and ${held} held`)
  }
  t.ok(granted + window.consume(held) >= 500, 'and a sender whose reader has caught up is never stuck')
})

t.test('a window grows by what it is given', async t => {
  const window = new ReceiveWindow(100)
  t.equal(window.grow(50), 50)
  t.equal(window.limit, 150)
  t.ok(window.receive(150))
  t.notOk(window.receive(1))
})

t.test('the connection’s credit comes back by steps', async t => {
  const window = new ReceiveWindow(1000, 10)
  window.receive(30)
  t.equal(window.consume(9), 0)
  t.equal(window.consume(1), 10)
})

t.test('a window for sending may be negative, and overflows at 2^31', async t => {
  const window = new SendWindow(100)
  window.take(80)
  t.ok(window.add(-50))
  t.equal(window.available, -30)
  t.ok(window.add(2 ** 31 - 1 + 30))
  t.notOk(window.add(1))
})

t.test('an allowance lends what it has and takes it back', async t => {
  const allowance = new Allowance(100)
  t.equal(allowance.take(80), 80)
  t.equal(allowance.take(80), 20)
  t.equal(allowance.take(1), 0)
  allowance.give(30)
  t.equal(allowance.take(80), 30)
})

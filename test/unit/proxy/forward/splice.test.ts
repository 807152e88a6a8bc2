import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { splice } from '../../../../proxy/forward/splice.ts'
import type { TcpStream } from '../../../../proxy/tcp/tcp-stream.ts'
import { inFlight } from '../../../../proxy/tcp/write.ts'
import { tcpPair } from '../../../support/tcp-pair.ts'

const NEVER = new AbortController().signal

/** Two TCP connections on loopback: `a` and `b` are to be spliced, `left` and `right` their far ends. */
async function twoConnections(t: Test) {
  const [one, other] = await Promise.all([tcpPair(t), tcpPair(t)])
  return { left: one.far, a: one.stream, right: other.far, b: other.stream }
}

const spliced = async (a: TcpStream, b: TcpStream, signal = NEVER) => {
  const traffic = { aToB: 0, bToA: 0 }
  const outcome = await splice(a, b, { signal, traffic })
  return { ...traffic, outcome }
}

async function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(socket, 'end')
  return Buffer.concat(chunks)
}

t.test('bytes are carried and counted each way, and ends each on its own', async t => {
  const { left, a, right, b } = await twoConnections(t)
  const splicing = spliced(a, b)
  left.end('question')
  t.equal(String(await received(right)), 'question')
  right.end('an answer')
  t.equal(String(await received(left)), 'an answer')
  t.same(await splicing, { aToB: 8, bToA: 9, outcome: 'ended' })
})

t.test('a reset of one is a reset of the other', async t => {
  const { left, a, right, b } = await twoConnections(t)
  const splicing = spliced(a, b)
  right.resume()
  left.write('x')
  await once(right, 'data')
  const error = once(right, 'error')
  left.resetAndDestroy()
  t.match(await error, [{ code: 'ECONNRESET' }])
  t.match(await splicing, { aToB: 1, outcome: 'reset' })
})

t.test('an abort resets both, and says so', async t => {
  const { left, a, right, b } = await twoConnections(t)
  const controller = new AbortController()
  const splicing = spliced(a, b, controller.signal)
  const errors = [once(left.resume(), 'error'), once(right.resume(), 'error')]
  controller.abort()
  t.match(await Promise.all(errors), [[{ code: 'ECONNRESET' }], [{ code: 'ECONNRESET' }]])
  t.match(await splicing, { outcome: 'aborted' })
})

t.test('what was over before it began is over at once', async t => {
  const aborted = await twoConnections(t)
  t.match(await spliced(aborted.a, aborted.b, AbortSignal.abort()), { outcome: 'aborted' })
  t.ok(aborted.a.isOver && aborted.b.isOver)
  const gone = await twoConnections(t)
  gone.a.close()
  t.match(await spliced(gone.a, gone.b), { outcome: 'reset' })
  t.ok(gone.b.isOver)
})

t.test('a reader that stops stops the writer, and nothing is lost when it goes on', async t => {
  const { left, a, right, b } = await twoConnections(t)
  void spliced(a, b)
  const flood = randomBytes(32 * 1024 * 1024)
  left.write(flood)
  left.end()
  await delay(200)
  t.ok(left.writableLength > 0, 'the writer is pushed back on')
  t.ok(inFlight.bytes < 1024 * 1024, 'and we hold little of it')
  t.ok((await received(right)).equals(flood))
})

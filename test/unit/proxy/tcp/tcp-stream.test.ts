import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'
import { dial } from '../../../../proxy/forward/dial.ts'
import type { TcpStream } from '../../../../proxy/tcp/tcp-stream.ts'
import type { ByteStream } from '../../../../proxy/tunnel/byte-stream.ts'
import { dialTcp, sink, tcpPair } from '../../../support/tcp-pair.ts'

const NEVER = new AbortController().signal

/** A dialled stream and the application's end of it. */
async function dialled(t: Test): Promise<{ stream: ByteStream; application: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  const accepted = once(server, 'connection')
  const stream = await dial({ address: '127.0.0.1', port }, { signal: NEVER })
  const [application] = await accepted
  application.on('error', () => {})
  server.close()
  t.teardown(() => application.destroy())
  return { stream, application }
}

async function received(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  await once(socket, 'end')
  return Buffer.concat(chunks)
}

t.test('what is written may be overwritten at once, and keeps its order, small or bulk', async t => {
  const { stream, application } = await dialled(t)
  stream.open(sink({}))
  const all = received(application)
  const sent: Buffer[] = []
  for (const size of [10, 5_000, 20, 200_000, 1, 4_096, 4_095, 131_072, 3]) {
    const chunk = randomBytes(size)
    sent.push(Buffer.from(chunk))
    stream.write(chunk)
    chunk.fill(0)
    if (size === 20) await delay(5)
  }
  stream.end()
  t.ok((await all).equals(Buffer.concat(sent)))
})

t.test('an application that spoke before it was listened to is heard', async t => {
  const { stream, application } = await dialled(t)
  application.write('220 ready')
  await delay(20)
  const { promise, resolve } = Promise.withResolvers<string>()
  stream.open(sink({ data: chunk => resolve(String(chunk)) }))
  t.equal(await promise, '220 ready')
  stream.reset()
})

t.test('chunks are kept by who asks to keep them, and lent to who borrows them', async t => {
  for (const borrows of [false, true]) {
    const { stream, application } = await dialled(t)
    const kept: Buffer[] = []
    const { promise: ended, resolve } = Promise.withResolvers<void>()
    stream.open(sink({ borrows, data: chunk => kept.push(chunk), end: resolve }))
    application.write('first')
    await delay(20)
    application.end('after')
    await ended
    const memory = new Set(kept.map(({ buffer, byteOffset }) => `${buffer.byteLength} ${byteOffset}`))
    if (borrows) t.equal(memory.size, 1, 'one buffer')
    else t.equal(String(Buffer.concat(kept)), 'firstafter')
    stream.reset()
  }
})

t.test('a paused stream delivers nothing, a slow reader says so and when it is not', async t => {
  const { stream, application } = await dialled(t)
  let bytes = 0
  const drained = Promise.withResolvers<void>()
  stream.open(
    sink({
      data: chunk => {
        bytes += chunk.length
      },
      drain: () => drained.resolve(),
    }),
  )
  stream.pause()
  application.write(Buffer.alloc(100_000))
  await delay(50)
  t.equal(bytes, 0)
  stream.resume()
  while (bytes < 100_000) await delay(5)

  application.pause()
  const chunk = Buffer.alloc(64 * 1024)
  let written = 0
  while (stream.write(chunk) && written < 64 * 1024 * 1024) {
    written += chunk.length
    if (written % (1024 * 1024) === 0) await delay(0)
  }
  t.ok(written < 32 * 1024 * 1024, `${written} bytes until it was slow`)
  application.resume()
  await drained.promise
  stream.reset()
})

t.test('a reset is one on the other side, whatever waits to be sent', async t => {
  const { stream, application } = await dialled(t)
  const closed = Promise.withResolvers<string>()
  stream.open(sink({ closed: closed.resolve }))
  const error = once(application.resume(), 'error')
  stream.write(Buffer.alloc(10_000))
  stream.reset()
  t.match(await error, [{ code: 'ECONNRESET' }])
  t.equal(await closed.promise, 'reset')
})

t.test(
  'what came before the end is told before it, and the end before the close, also to who paused',
  async t => {
    const { stream, application } = await dialled(t)
    const told: string[] = []
    const closed = Promise.withResolvers<void>()
    stream.open(
      sink({
        data: chunk => told.push(String(chunk)),
        end: () => told.push('end'),
        closed: how => {
          told.push(how)
          closed.resolve()
        },
      }),
    )
    stream.pause()
    application.resume().end('last words')
    stream.end()
    await delay(50)
    t.same(told, [])
    stream.resume()
    await closed.promise
    t.same(told, ['last words', 'end', 'ended'])
  },
)

t.test('a reset right behind an end closes the socket: it is no end in order', async t => {
  const { stream, application } = await dialled(t)
  const told: string[] = []
  const closed = Promise.withResolvers<void>()
  stream.open(
    sink({
      data: () => told.push('data'),
      end: () => told.push('end'),
      closed: how => {
        told.push(how)
        closed.resolve()
      },
    }),
  )
  await delay(5)
  const gone = once(application, 'error', { signal: AbortSignal.timeout(5_000) })
  application.resume().write('not read any more')
  stream.write(Buffer.from('x'))
  stream.end()
  stream.reset()
  stream.reset()
  await Promise.race([closed.promise, delay(2_000)])
  application.write('nor this')
  t.match(await gone, [{ code: /ECONNRESET|EPIPE/ }])
  t.same(told, ['reset'])
})

t.test('a reset of what was closed, and waits to be read, is told', async t => {
  const { stream, application } = await dialled(t)
  const told: string[] = []
  stream.open(
    sink({ data: () => told.push('data'), end: () => told.push('end'), closed: how => told.push(how) }),
  )
  stream.pause()
  application.resume().end('last words')
  stream.end()
  await delay(50)
  stream.reset()
  t.same(told, [], 'not during the call')
  await delay(5)
  stream.resume()
  t.same(told, ['reset'])
})

t.test('a stream that is paused as it is opened is not read on and on', async t => {
  const { stream, application } = await dialled(t)
  let bytes = 0
  const ended = Promise.withResolvers<void>()
  stream.open(
    sink({
      data: chunk => {
        bytes += chunk.length
      },
      end: ended.resolve,
    }),
  )
  stream.pause()
  const flood = Buffer.alloc(32 * 1024 * 1024)
  application.end(flood)
  await delay(200)
  t.ok(application.writableLength > 0, 'who writes is pushed back on')
  stream.resume()
  await ended.promise
  t.equal(bytes, flood.length)
  stream.reset()
})

t.test('after a reset nobody is told to go on', async t => {
  const { stream } = await dialled(t)
  const told: string[] = []
  const closed = Promise.withResolvers<void>()
  stream.open(
    sink({
      drain: () => told.push('drain'),
      closed: how => {
        told.push(how)
        closed.resolve()
      },
    }),
  )
  while (stream.write(Buffer.alloc(64 * 1024))) await delay(0)
  stream.reset()
  await closed.promise
  await delay(5)
  t.same(told, ['reset'])
})

for (const how of ['ended', 'reset'] as const) {
  t.test(`a close is told once, ${how}, whatever is asked for after it`, async t => {
    const { stream, application } = await dialled(t)
    const told: string[] = []
    const closed = Promise.withResolvers<void>()
    stream.open(
      sink({
        data: () => told.push('data'),
        end: () => told.push('end'),
        closed: how => {
          told.push(how)
          closed.resolve()
        },
      }),
    )
    // Paused as it was opened, it holds what is read; and what a reset cuts off is not read later.
    if (how === 'reset') stream.pause()
    application.resume().write('words')
    await delay(20)
    if (how === 'ended') {
      application.end()
      stream.end()
    } else {
      application.resetAndDestroy()
      await delay(20)
      stream.write(Buffer.from('notices it'))
    }
    await closed.promise
    stream.resume()
    stream.reset()
    await delay(5)
    t.same(told, how === 'ended' ? ['data', 'end', 'ended'] : ['reset'])
  })
}

t.test('a close is an end in order, but a reset where something was not sent, or not read', async t => {
  const heard = async (before: (stream: TcpStream, far: Socket) => unknown) => {
    const { stream, far } = await tcpPair(t)
    stream.open(sink({}))
    stream.pause()
    await before(stream, far)
    const how = new Promise(resolve =>
      far.once('end', () => resolve('end')).once('error', () => resolve('reset')),
    )
    stream.close()
    far.resume()
    return how
  }
  t.equal(await heard(() => {}), 'end')
  t.equal(await heard(stream => stream.write(Buffer.from('with the kernel'))), 'end')
  t.equal(await heard(stream => stream.write(Buffer.alloc(5_000))), 'reset', 'gathered')
  t.equal(await heard(stream => stream.write(Buffer.alloc(32 * 1024 * 1024))), 'reset', 'in flight')
  const unread = (_stream: TcpStream, far: Socket) => {
    far.write('unread')
    return delay(20)
  }
  t.equal(await heard(unread), 'reset')
})

t.test(
  'who closes on what is still sent to it, as a server that is sent too much, is heard to the end',
  async t => {
    const application = new Worker(
      `const { createServer } = require('node:net')
     const { parentPort } = require('node:worker_threads')
     const server = createServer(socket => {
       parentPort.once('message', () => socket.write('413 too much', () => socket.resetAndDestroy()))
     })
     server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))`,
      { eval: true },
    )
    t.teardown(() => application.terminate())
    const [port] = await once(application, 'message')
    const stream = await dialTcp(port)
    const told: string[] = []
    const closed = Promise.withResolvers<string>()
    stream.open(
      sink({ data: chunk => told.push(String(chunk)), end: () => told.push('end'), closed: closed.resolve }),
    )
    application.postMessage('answer')
    // By then the answer and the reset have come, and we have not looked: a write is what meets the reset.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
    t.ok(stream.write(Buffer.from('much')), 'nobody need wait for it')
    t.ok(stream.write(Buffer.alloc(100_000)))
    stream.end()
    t.equal(await closed.promise, 'reset')
    t.same(told, ['413 too much'])
  },
)

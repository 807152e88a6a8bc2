// Writes past the Writable: what is done at once, what is in flight, and what fails. The first test fails when a Node
// release changes how a socket's handle is written to; the proxy would go on, slower.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type SocketWriter, writeToSocket } from '../../../../proxy/tcp/write.ts'

const MEBIBYTE = 1024 * 1024

t.test('what the kernel takes at once is done at once, past the Writable', async t => {
  const { near, far } = await socketPair(t)
  t.ok(writeToSocket(writerTo(near), Buffer.from('all of it')))
  t.equal(near.writableLength, 0)
  t.equal(String((await once(far, 'data'))[0]), 'all of it')
})

t.test('what the kernel does not take at once is in flight until the peer reads, and complete', async t => {
  const { near, far } = await socketPair(t)
  const written = Promise.withResolvers<void>()
  const chunk = Buffer.from(Array.from({ length: 32 * MEBIBYTE }, (_, index) => (index * 7) % 251))
  let isWritten = false
  t.notOk(writeToSocket(writerTo(near, written.resolve), chunk))
  void written.promise.then(() => {
    isWritten = true
  })
  await delay(50)
  t.notOk(isWritten, 'nobody reads')
  const got: Buffer[] = []
  far.on('data', (piece: Buffer) => got.push(piece))
  await written.promise
  near.end()
  await once(far, 'end')
  t.ok(Buffer.concat(got).equals(chunk))
})

t.test('the end comes after what is in flight', async t => {
  const { near, far } = await socketPair(t)
  t.notOk(writeToSocket(writerTo(near), Buffer.alloc(32 * MEBIBYTE)))
  near.end()
  let bytes = 0
  far.on('data', piece => {
    bytes += piece.length
  })
  await once(far, 'end')
  t.equal(bytes, 32 * MEBIBYTE)
})

t.test('a write that fails is told, and one that is cut off', async t => {
  const { near, far } = await socketPair(t)
  let writes = 0
  const writer = writerTo(near, () => {
    writes += 1
  })
  t.notOk(writeToSocket(writer, Buffer.alloc(32 * MEBIBYTE)))
  const closed = new Promise(resolve => near.once('close', resolve))
  far.resetAndDestroy()
  t.equal(await closed, true, 'with an error')
  t.equal(writes, 1, 'the memory is free again')
  t.ok(writeToSocket(writer, Buffer.from('nobody gets it')), 'what comes later is dropped')
})

t.test('a socket that has no handle of its own is written to as a stream', async t => {
  const stream = new PassThrough()
  const written = Promise.withResolvers<void>()
  t.notOk(
    writeToSocket(
      { socket: stream, onWritten: written.resolve, onFailed: () => {} },
      Buffer.from('as a stream'),
    ),
  )
  t.equal(String((await once(stream, 'data'))[0]), 'as a stream')
  await written.promise
})

const writerTo = (socket: Socket, onWritten = () => {}): SocketWriter => ({
  socket,
  onWritten,
  onFailed: error => socket.destroy(error),
})

async function socketPair(t: Test): Promise<{ near: Socket; far: Socket }> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (typeof address !== 'object' || !address) throw new Error('not listening')
  const near = connect({ host: address.address, port: address.port, noDelay: true })
  const [[far]] = await Promise.all([once(server, 'connection'), once(near, 'connect')])
  for (const socket of [near, far]) {
    socket.on('error', () => {})
    t.teardown(() => socket.destroy())
  }
  t.teardown(() => server.close())
  return { near, far }
}

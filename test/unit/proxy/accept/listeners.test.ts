import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { bind, type Captured, type CaptureOptions } from '../../../../proxy/accept/listeners.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { sink } from '../../../support/tcp-pair.ts'

const DESTINATION = { address: '10.0.0.1', port: 80 }

/** A listener with what it was given recorded. */
async function listen(host: string, options: Partial<CaptureOptions> = {}) {
  const captured: Captured[] = []
  const refused: { code: string; peer: string | undefined }[] = []
  const listener = await bind(host, 0, {
    originalDestination: () => DESTINATION,
    maxConnections: 10,
    onConnection: connection => captured.push(connection),
    onRefused: (error, peer) => refused.push({ code: error.code, peer: peer?.address }),
    ...options,
  })
  const port = listener.bound[0]?.port ?? 0
  return { listener, captured, refused, port }
}

async function dial(port: number, host = '127.0.0.1', localAddress?: string): Promise<Socket> {
  const from = localAddress === undefined ? {} : { localAddress }
  const socket = connect({ host, port, allowHalfOpen: true, ...from }).on('error', () => {})
  await once(socket, 'connect')
  return socket
}

/** Everything that the other side sends before it ends; rejects when it resets. */
const exchange = (port: number): Promise<string> => text(connect({ host: '127.0.0.1', port }))

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await delay(1)
}

t.test('a connection arrives unread, with its destination and its peer', async t => {
  const { listener, captured, port } = await listen('127.0.0.1')
  await using _ = listener
  const client = await dial(port)
  client.write('hello')
  await until(() => captured.length === 1)
  const [first] = captured
  t.match(first, { destination: DESTINATION, peer: { address: '127.0.0.1', port: client.localPort } })
  await delay(20)
  const heard = Promise.withResolvers<string>()
  first?.stream.open(sink({ data: chunk => heard.resolve(String(chunk)) }))
  t.equal(await heard.promise, 'hello', 'nothing was read before')
  client.destroy()
})

t.test('each direction ends on its own', async t => {
  const { listener, captured, port } = await listen('127.0.0.1')
  await using _ = listener
  const client = await dial(port)
  client.end('question')
  await until(() => captured.length === 1)
  const stream = captured[0]?.stream
  const ended = Promise.withResolvers<void>()
  stream?.open(sink({ end: ended.resolve }))
  await ended.promise
  stream?.write(Buffer.from('answer after the question ended'))
  stream?.end()
  t.equal(await text(client), 'answer after the question ended')
})

t.test('an IPv4 peer of a dual-stack listener has an IPv4 address', async t => {
  const { listener, captured, port } = await listen('::')
  await using _ = listener
  const client = await dial(port, '127.0.0.1')
  await until(() => captured.length === 1)
  t.equal(captured[0]?.peer.address, '127.0.0.1')
  client.destroy()
})

t.test('a connection without a known destination is reset', async t => {
  const { listener, captured, refused, port } = await listen('127.0.0.1', {
    originalDestination: () => {
      throw new PosternError('PSTN_INTERCEPTION', 'unknown')
    },
  })
  await using _ = listener
  await t.rejects(exchange(port), { code: 'ECONNRESET' })
  t.strictSame(refused, [{ code: 'PSTN_INTERCEPTION', peer: '127.0.0.1' }])
  t.equal(captured.length, 0)
})

t.test('beyond the limit connections are reset and counted, below it they go on', async t => {
  const { listener, captured, refused, port } = await listen('127.0.0.1', { maxConnections: 1 })
  await using _ = listener
  const first = await dial(port)
  await until(() => captured.length === 1)
  await t.rejects(exchange(port), { code: 'ECONNRESET' }, 'which no application takes for an end')
  t.strictSame(refused, [{ code: 'PSTN_LIMIT', peer: '127.0.0.1' }])
  captured[0]?.stream.write(Buffer.from('still here'))
  const [chunk] = await once(first, 'data')
  t.equal(String(chunk), 'still here')
  first.destroy()
})

t.test('one address has a share of the connections, and the others have theirs', async t => {
  const { listener, captured, refused, port } = await listen('::', { maxPerAddress: 2 })
  await using _ = listener
  const first = await dial(port)
  await dial(port)
  await until(() => captured.length === 2)
  await t.rejects(exchange(port), { code: 'ECONNRESET' })
  t.strictSame(refused, [{ code: 'PSTN_LIMIT', peer: '127.0.0.1' }])
  await dial(port, '127.0.0.1', '127.0.0.2')
  await until(() => captured.length === 3)
  t.equal(captured[2]?.peer.address, '127.0.0.2', 'another is let in')

  const gone = Promise.withResolvers<void>()
  first.once('close', () => gone.resolve())
  captured[0]?.stream.reset()
  await gone.promise
  await dial(port)
  await until(() => captured.length === 4)
  t.equal(captured[3]?.peer.address, '127.0.0.1', 'for each that ends there is room for another')
  t.equal(refused.length, 1)
})

t.test('without a share one address may take all', async t => {
  const { listener, captured, refused, port } = await listen('127.0.0.1', { maxConnections: 3 })
  await using _ = listener
  for (let count = 0; count < 3; count += 1) await dial(port)
  await until(() => captured.length === 3)
  t.same(refused, [])
})

t.test('draining refuses new connections and ends with the last live one', async t => {
  const { listener, captured, port } = await listen('127.0.0.1')
  await using _ = listener
  const client = await dial(port)
  await until(() => captured.length === 1)
  let drained = false
  const draining = listener.drain().then(() => {
    drained = true
  })
  await t.rejects(dial(port), { code: 'ECONNREFUSED' })
  t.notOk(drained)
  const stream = captured[0]?.stream
  stream?.open(sink({}))
  stream?.write(Buffer.from('bye'))
  stream?.end()
  client.end()
  t.equal(await text(client), 'bye')
  await draining
})

t.test('disposing closes what is still open', async t => {
  const { listener, captured, port } = await listen('127.0.0.1')
  const client = await dial(port)
  const ended = text(client)
  await until(() => captured.length === 1)
  await listener[Symbol.asyncDispose]()
  t.equal(await ended, '')
})

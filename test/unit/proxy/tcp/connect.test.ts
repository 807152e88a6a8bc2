import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { connectTcp } from '../../../../proxy/tcp/connect.ts'
import type { TcpStream } from '../../../../proxy/tcp/tcp-stream.ts'
import { portOf } from '../../../support/tcp-pair.ts'

const descriptors = (): number => readdirSync('/proc/self/fd').length

/** The port of a listener that ends each connection with its peer. */
async function listening(t: Test, host = '127.0.0.1') {
  const server = createServer(socket => socket.on('error', () => {}).resume()).listen(0, host)
  await once(server, 'listening')
  t.teardown(() => new Promise(resolve => server.close(resolve)))
  return portOf(server)
}

const dialled = (address: string, port: number): Promise<TcpStream | Error> =>
  new Promise(resolve => connectTcp(address, port, resolve))

t.test('what is dialled knows both its ends', async t => {
  for (const host of ['127.0.0.1', '::1']) {
    const port = await listening(t, host)
    const stream = await dialled(host, port)
    if (stream instanceof Error) throw stream
    t.same(stream.peer, { address: host, port })
    t.equal(stream.local?.address, host)
    t.ok((stream.descriptor ?? -1) > 2)
    const gone = new Promise<void>(resolve => {
      stream.whenGone(resolve)
    })
    stream.reset()
    await gone
    t.same([stream.peer, stream.local, stream.descriptor], [undefined, undefined, undefined])
  }
})

t.test('a dial that fails says why, later, and leaves no descriptor', async t => {
  const port = await listening(t)
  const before = descriptors()
  const failures = [
    ['127.0.0.1', 1, 'connect: ECONNREFUSED'],
    ['no address', port, 'connect: EINVAL'],
    ['::no:address', port, 'connect: EINVAL'],
    ['255.255.255.255', port, /connect: E(ACCES|NETUNREACH)/],
  ] as const
  for (const [address, port, message] of failures) t.match(await dialled(address, port), { message })
  await delay(20)
  t.equal(descriptors(), before)
})

t.test('who gives up is told nothing, whenever it does, and no descriptor is left', async t => {
  const port = await listening(t)
  const before = descriptors()
  const told: unknown[] = []
  const tell = (outcome: unknown) => told.push(outcome)
  const attempts = [
    connectTcp('127.0.0.1', port, tell),
    connectTcp('127.0.0.1', 1, tell),
    connectTcp('no address', port, tell),
  ]
  for (const giveUp of [...attempts, ...attempts]) giveUp()
  await delay(20)
  t.same(told, [])
  t.equal(descriptors(), before)
})

t.test('to give up what is connected does nothing', async t => {
  const port = await listening(t)
  const connected = Promise.withResolvers<TcpStream | Error>()
  const giveUp = connectTcp('127.0.0.1', port, connected.resolve)
  const stream = await connected.promise
  giveUp()
  if (stream instanceof Error) throw stream
  t.notOk(stream.isOver)
  t.ok(stream.peer)
  stream.reset()
})

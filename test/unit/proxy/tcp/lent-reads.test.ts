import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { LentReads } from '../../../../proxy/tcp/lent-reads.ts'
import { testAuthority } from '../../../support/certificates.ts'

const CHUNK = Buffer.alloc(64 * 1024, 'x')
const CHUNKS = 2_000

t.test('a socket that was accepted reads into the shared buffer, and makes none of its own', async t => {
  await using pair = await tcpPair()
  const made = await buffersMadeBy(pair, receive(t, pair.accepted))
  t.ok(made < CHUNK.length * 100, `${made} bytes`)
})

t.test('without them every read makes a buffer, which the test above would see', async t => {
  await using pair = await tcpPair()
  const { accepted } = pair
  let bytes = 0
  accepted.on('data', chunk => {
    bytes += chunk.length
  })
  const made = await buffersMadeBy(pair, async () => {
    await once(accepted.resume(), 'end')
    return bytes
  })
  t.ok(made > CHUNK.length * 200, `${made} bytes`)
})

t.test('a TLS socket that was accepted reads into the shared buffer, too', async t => {
  await using pair = await tlsPair()
  const made = await buffersMadeBy(pair, receive(t, pair.accepted))
  t.ok(made < CHUNK.length * 100, `${made} bytes`)
})

t.test('a reader that pauses gets nothing until it resumes', async t => {
  await using pair = await tcpPair()
  const { accepted, dialled } = pair
  const reads = lent(accepted)
  let bytes = 0
  reads.deliverTo(chunk => {
    bytes += chunk.length
    accepted.pause()
  })
  accepted.resume()
  dialled.end(Buffer.concat([CHUNK, CHUNK]))
  await new Promise(resolve => setTimeout(resolve, 50))
  t.ok(bytes > 0 && bytes <= CHUNK.length, `${bytes} bytes before the pause`)
  reads.deliverTo(chunk => {
    bytes += chunk.length
  })
  accepted.resume()
  await once(accepted, 'end')
  t.equal(bytes, 2 * CHUNK.length)
})

t.test('a socket that has read something already is left as it is', async t => {
  await using pair = await tcpPair()
  pair.dialled.write('early')
  pair.accepted.read(0)
  await once(pair.accepted, 'readable')
  t.equal(LentReads.of(pair.accepted), undefined)
  t.equal(String(pair.accepted.read()), 'early')
})

/** Receives until the end, and checks the content. */
function receive(t: Test, accepted: Socket): () => Promise<number> {
  let bytes = 0
  let wrong = 0
  lent(accepted).deliverTo(chunk => {
    bytes += chunk.length
    if (chunk[0] !== CHUNK[0] || chunk.at(-1) !== CHUNK[0]) wrong += 1
  })
  return async () => {
    await once(accepted.resume(), 'end')
    t.equal(wrong, 0)
    return bytes
  }
}

/** The most that buffers grew by while everything was sent; what is collected meanwhile is not seen. */
async function buffersMadeBy({ dialled }: Pair, received: () => Promise<number>): Promise<number> {
  const before = process.memoryUsage().arrayBuffers
  let most = before
  const send = async () => {
    for (let sent = 0; sent < CHUNKS; sent += 1) {
      if (!dialled.write(CHUNK)) await once(dialled, 'drain')
      most = Math.max(most, process.memoryUsage().arrayBuffers)
    }
    dialled.end()
  }
  const [bytes] = await Promise.all([received(), send()])
  if (bytes !== CHUNKS * CHUNK.length) throw new Error(`${bytes} bytes arrived`)
  return most - before
}

function lent(socket: Socket): LentReads {
  const reads = LentReads.of(socket)
  if (!reads) throw new Error('this Node keeps a socket’s onread elsewhere: proxy/tcp/lent-reads.ts')
  return reads
}

type Pair = AsyncDisposable & { readonly accepted: Socket; readonly dialled: Socket }

async function tcpPair(): Promise<Pair> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const dialled = connect(portOf(server.address()), '127.0.0.1')
  const [accepted] = await once(server, 'connection')
  return { accepted, dialled, ...ending(server, [accepted, dialled]) }
}

async function tlsPair(): Promise<Pair> {
  const { key, chain } = (
    await (await testAuthority('cluster.local')).issue({ identity: 'spiffe://cluster.local/ns/a/sa/b' })
  ).credential(1)
  const server = createTlsServer({ key, cert: chain }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const dialled = connectTls({
    port: portOf(server.address()),
    host: '127.0.0.1',
    rejectUnauthorized: false,
  })
  const [accepted] = await once(server, 'secureConnection')
  return { accepted, dialled, ...ending(server, [accepted, dialled]) }
}

const ending = (server: { close(): unknown }, sockets: readonly Socket[]) => ({
  [Symbol.asyncDispose]: async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  },
})

const portOf = (address: unknown): number => Number(Reflect.get(Object(address), 'port'))

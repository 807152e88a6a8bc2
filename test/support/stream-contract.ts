// What every stream of a tunnel does, whichever implementation is at either end.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { DuplexOf } from './duplex-of.ts'
import { endOf, nextText, readAll } from './tunnel-pair.ts'

const MIB = 1024 * 1024

export type Streams = AsyncDisposable & {
  /** A stream's two ends. */
  open(): Promise<{ client: DuplexOf; server: DuplexOf }>
  /** Ends the connection below them. */
  cut(): void
}

export function streamContract(ends: string, connect: () => Promise<Streams>): void {
  const test = (name: string, run: (t: Test, streams: Streams) => Promise<void>) =>
    t.test(`${ends}: ${name}`, async t => {
      await using streams = await connect()
      await run(t, streams)
    })

  test('each direction ends on its own', async (t, streams) => {
    const { client, server } = await streams.open()
    client.end('question')
    t.equal(String(await readAll(server)), 'question')
    t.equal(client.readableEnded, false)
    server.write('late ')
    await delay(50)
    server.end('answer')
    t.equal(String(await readAll(client)), 'late answer')
  })

  test('the server may end first and go on reading', async (t, streams) => {
    const { client, server } = await streams.open()
    server.end('bye')
    t.equal(String(await readAll(client)), 'bye')
    client.end('still here')
    t.equal(String(await readAll(server)), 'still here')
  })

  test('a stream without a byte ends in order', async (t, streams) => {
    const { client, server } = await streams.open()
    client.end()
    server.end()
    t.equal((await readAll(client)).length, 0)
    t.equal((await readAll(server)).length, 0)
  })

  test('a reset by either side is never taken for an end', async (t, streams) => {
    for (const who of ['client', 'server'] as const) {
      const { client, server } = await streams.open()
      const [resetter, other] = who === 'client' ? [client, server] : [server, client]
      other.write('half an answer')
      other.resume()
      resetter.write('half an answer')
      await delay(20)
      resetter.resetAndDestroy()
      t.equal(await endOf(other), 'cut off', who)
    }
  })

  test('a reset after our own end is still a reset', async (t, streams) => {
    const { client, server } = await streams.open()
    client.end('question')
    server.resume()
    await once(server, 'end')
    server.write('half an answer')
    client.resume()
    await delay(20)
    server.resetAndDestroy()
    t.equal(await endOf(client), 'cut off')
  })

  test('a lost connection cuts its streams off', async (t, streams) => {
    const { client, server } = await streams.open()
    const ends = [endOf(client.resume()), endOf(server.resume())]
    streams.cut()
    t.same(await Promise.all(ends), ['cut off', 'cut off'])
  })

  test('a server that speaks first is heard before the client sends a byte', async (t, streams) => {
    const { client, server } = await streams.open()
    server.write('220 ready\r\n')
    t.equal(await nextText(client), '220 ready\r\n')
  })

  test('64 MiB each way arrive whole while another stream’s reader is stalled', async (t, streams) => {
    const stalled = await streams.open()
    const flood = randomBytes(8 * MIB)
    stalled.client.end(flood)
    await delay(200)
    t.ok(stalled.client.writableLength > 0, 'the stalled stream is pushed back on')

    const { client, server } = await streams.open()
    server.pipe(server)
    const [sent, received] = [createHash('sha256'), createHash('sha256')]
    client.on('data', (chunk: Buffer) => received.update(chunk))
    const ended = endOf(client)
    for (let count = 0; count < 64; count += 1) {
      const block = randomBytes(MIB)
      sent.update(block)
      if (!client.write(block)) await once(client, 'drain')
    }
    client.end()
    t.equal(await ended, 'ended')
    t.equal(received.digest('hex'), sent.digest('hex'))
    t.ok((await readAll(stalled.server)).equals(flood), 'what was stalled arrives too')
  })

  test('a hundred streams at once carry what is theirs', async (t, streams) => {
    const texts = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const { client, server } = await streams.open()
        server.pipe(server)
        client.end(`stream ${index}`)
        return String(await readAll(client))
      }),
    )
    t.same(
      texts,
      Array.from({ length: 100 }, (_, index) => `stream ${index}`),
    )
  })
}

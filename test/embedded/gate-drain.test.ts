// A sidecar that drains ends the kept connections of ports that speak HTTP, and no request is lost by that.
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { connect, createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { dataPath } from '../support/data-path.ts'
import { ask, gatedPath, reader } from '../support/gated-path.ts'

t.test('an idle connection of HTTP/1.1 is closed in order, and the drain is over', async t => {
  // Node's own would end an idle connection after 5 s.
  const options = { keepAliveTimeout: 0 }
  await using path = await gatedPath(createServer(options, (_request, response) => response.end('ok')))
  const socket = path.dial()
  const received = reader(socket)
  socket.write('GET / HTTP/1.1\r\nHost: shop\r\n\r\n')
  await received.until('ok')
  t.equal((await ask(path.agent)).status, 200)
  const drained = path.drain()
  t.notMatch(await received.all(), /close/)
  socket.end()
  await drained
  for (const _ of [1, 2]) t.match(await path.server.next('connection'), { outcome: 'ok', requests: 1 })
})

t.test('an answer of HTTP/1.1 that is under way says that it is the last', async t => {
  const asked = Promise.withResolvers<ServerResponse>()
  await using path = await gatedPath(createServer((_request, response) => asked.resolve(response)))
  const answer = ask(path.agent)
  const response = await asked.promise
  const drained = path.drain()
  response.end('late')
  t.match(await answer, { status: 200, body: 'late', headers: { connection: 'close' } })
  await drained
  t.match(await path.server.next('connection'), { outcome: 'ok', requests: 1 })
})

t.test('HTTP/2: GOAWAY, the end of what is under way, and the end', async t => {
  const server = createHttp2Server()
  const asked = once(server, 'stream')
  await using path = await dataPath(server)
  const { port } = Object(server.address())
  path.protocols.set({ [port]: 'http2' })
  const client = connect('http://shop', { createConnection: () => path.dial() })
  const stream = client.request()
  const served: ServerHttp2Stream = (await asked)[0]
  served.respond()
  const [goaway, closed] = [once(client, 'goaway'), once(client, 'close')]
  const drained = path.drain()
  t.match(await goaway, [0])
  served.end('late')
  t.equal((await buffer(stream)).toString(), 'late')
  await Promise.all([closed, drained])
  t.match(await path.server.next('connection'), { outcome: 'ok', requests: 1 })
})

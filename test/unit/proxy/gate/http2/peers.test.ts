// The gate between node:http2 as a client and node:http2 as a server, over real sockets.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  createServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, connect as connectTcp } from 'node:net'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import {
  CONNECTION_PREFACE,
  headersFrames,
  INITIAL,
  MAX_WINDOW,
  Setting,
  settingsFrame,
  windowUpdateFrame,
} from '../../../../../proxy/http2/frames.ts'
import type { Header } from '../../../../../proxy/http2/header.ts'
import { HpackEncoder } from '../../../../../proxy/http2/hpack-encoder.ts'
import { CLIENT_CERT, DENIED, startGate, type TestGate } from '../../../../support/http2-gate.ts'

type Behaviour = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, raw: string[]) => void

async function mesh(behaviour: Behaviour, settings = {}) {
  const server = createServer({
    settings: { initialWindowSize: 65_535, maxConcurrentStreams: 5_000, ...settings },
  })
  server.on('stream', (stream: ServerHttp2Stream, headers, _flags, raw) => {
    stream.on('error', () => {})
    behaviour(stream, headers, raw)
  })
  const sessions = new Set<{ destroy(): void }>()
  server.on('session', session => sessions.add(session.on('error', () => {})))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const gate = await startGate(server as typeof server & { address(): AddressInfo })
  const client = connect(`http://127.0.0.1:${gate.port}`, { maxSessionMemory: 100 })
  client.on('error', () => {})
  await once(client, 'connect')
  return {
    gate,
    client,
    server,
    sessions,
    [Symbol.asyncDispose]: async () => {
      client.destroy()
      for (const session of sessions) session.destroy()
      server.close()
      await gate[Symbol.asyncDispose]()
    },
  }
}

const GET: readonly Header[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'shop'],
  [':path', '/'],
]

type Answer = { headers: IncomingHttpHeaders; body: Buffer; trailers: IncomingHttpHeaders }

async function call(
  client: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: Buffer,
): Promise<Answer> {
  const stream = client.request(headers, { endStream: body === undefined })
  if (body !== undefined) stream.end(body)
  return answerOf(stream)
}

async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  let trailers: IncomingHttpHeaders = {}
  stream.on('trailers', found => {
    trailers = found
  })
  const [[headers], body] = await Promise.all([once(stream, 'response'), buffer(stream)])
  return { headers, body, trailers }
}

async function codeOf(stream: ClientHttp2Stream): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<void>()
  stream.on('error', () => {})
  stream.on('close', resolve).resume()
  await promise
  return stream.rstCode
}

const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

const echo: Behaviour = stream => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
  stream.pipe(stream)
}

t.test('a request is forwarded in the form in which it was authorized, and says who calls', async t => {
  let seen: string[] = []
  await using peers = await mesh((stream, _headers, raw) => {
    seen = raw
    stream.respond({ ':status': 204, 'x-answer': 'kept' }, { endStream: true })
  })
  const answer = await call(peers.client, {
    ':path': '/a/./b//%63?x=%2F',
    ':authority': 'Shop.example.:8080',
    'x-forwarded-client-cert': 'URI=spiffe://forged',
    x_forwarded_client_cert: 'URI=spiffe://forged',
    'x-forwarded_client-cert': 'URI=spiffe://forged',
    forwarded: 'for=10.0.0.3',
    'x-forwarded-for': '10.0.0.3',
    cookie: 'a=b',
  })
  t.match(answer.headers, { ':status': 204, 'x-answer': 'kept' })
  const fields = seen.flatMap((name, at) => (at % 2 === 0 ? [[name, seen[at + 1]]] : []))
  t.same(fields, [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':authority', 'Shop.example.:8080'],
    [':path', '/a/b/c?x=%2F'],
    ['forwarded', 'for=10.0.0.3'],
    ['x-forwarded-for', '10.0.0.3'],
    ['cookie', 'a=b'],
    ['x-forwarded-client-cert', CLIENT_CERT],
  ])
  await peers.gate.ended(1)
  t.match(peers.gate.outcomes, [
    {
      request: { method: 'GET', host: 'shop.example:8080', path: '/a/b/c' },
      status: 204,
      refusal: undefined,
    },
  ])
  t.equal(peers.gate.grants.size, 0)
})

t.test('unary and streaming calls with trailers pass, each way and both at once', async t => {
  await using peers = await mesh(echo)
  const unary = await call(peers.client, { ':method': 'POST', ':path': '/s/Unary' }, Buffer.from('hello'))
  t.equal(unary.body.toString(), 'hello')
  t.equal(unary.trailers['grpc-status'], '0')
  const stream = peers.client.request({ ':method': 'POST', ':path': '/s/Chat' })
  for (const word of ['one', 'two', 'three']) {
    stream.write(word)
    const [chunk] = await once(stream, 'data')
    t.equal(String(chunk), word, 'before the request has ended')
  }
  stream.end()
  await once(stream, 'end')
  const trailing = peers.client.request({ ':method': 'POST', ':path': '/s/T' }, { waitForTrailers: true })
  trailing.on('wantTrailers', () => trailing.sendTrailers({ 'x-checksum': 'abc' }))
  trailing.end('body')
  t.equal((await answerOf(trailing)).body.toString(), 'body')
  await peers.gate.ended(3)
  t.equal(peers.gate.outcomes.filter(({ status }) => status === 200).length, 3)
})

t.test('trailers of a request arrive', async t => {
  const { promise, resolve } = Promise.withResolvers<IncomingHttpHeaders>()
  await using peers = await mesh(stream => {
    stream.on('trailers', resolve)
    stream.resume()
    stream.respond({ ':status': 200 }, { endStream: true })
  })
  const stream = peers.client.request({ ':method': 'POST' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-checksum': 'abc' }))
  stream.end('body')
  t.equal((await promise)['x-checksum'], 'abc')
})

t.test('big bodies arrive whole, both ways, on several streams', async t => {
  await using peers = await mesh(echo)
  const bodies = [1, 2, 3, 4].map(n => Buffer.alloc(5_000_000 + n, `${n}-body`))
  const answers = await Promise.all(
    bodies.map(body => call(peers.client, { ':method': 'POST', ':path': '/big' }, body)),
  )
  t.same(
    answers.map(({ body }) => sha(body)),
    bodies.map(sha),
  )
  t.ok(peers.gate.traffic.aToB > 20_000_000 && peers.gate.traffic.bToA > 20_000_000)
})

t.test('1,000 streams at once', async t => {
  const waiting: ServerHttp2Stream[] = []
  await using peers = await mesh(stream => {
    waiting.push(stream)
    if (waiting.length < 1_000) return
    for (const each of waiting) echo(each, {}, [])
  })
  const answers = await Promise.all(
    Array.from({ length: 1_000 }, (_, n) =>
      call(peers.client, { ':method': 'POST' }, Buffer.from(`body ${n}`)),
    ),
  )
  t.ok(answers.every(({ body }, n) => body.toString() === `body ${n}`))
  await peers.gate.ended(1_000)
  t.equal(peers.gate.grants.size, 0)
})

t.test('what is denied is answered here, in the form that its client reads', async t => {
  let reached = 0
  await using peers = await mesh(stream => {
    reached += 1
    stream.respond({ ':status': 200 }, { endStream: true })
  })
  peers.gate.decide(({ path }) => (path.startsWith('/admin') ? DENIED : { allow: true }))
  const plain = await call(peers.client, { ':path': '/admin' })
  t.match(plain.headers, { ':status': 403, 'postern-code': 'PSTN_POLICY_DENIED' })
  t.notMatch(JSON.stringify(plain.headers), /shop\/api/, 'nothing about the policy')
  const grpc = await call(
    peers.client,
    { ':method': 'POST', ':path': '/admin/Do', 'content-type': 'application/grpc+proto' },
    Buffer.from('x'),
  )
  t.match(grpc.headers, { ':status': 200, 'grpc-status': '7', 'grpc-message': 'PSTN_POLICY_DENIED' })
  t.equal(
    (await call(peers.client, { ':path': '/admin;x/../admin' })).headers[':status'],
    403,
    'in every reading',
  )
  t.equal(reached, 0)
  t.equal((await call(peers.client, { ':path': '/ok' })).headers[':status'], 200, 'the connection goes on')
  await peers.gate.ended(4)
  t.match(peers.gate.outcomes[0], {
    request: { path: '/admin' },
    status: 403,
    refusal: { code: 'PSTN_POLICY_DENIED', policy: 'shop/api' },
  })
})

t.test('the windows do not drift however much of denied requests comes', async t => {
  await using peers = await mesh(stream => {
    stream.resume()
    stream.on('end', () => stream.respond({ ':status': 200 }, { endStream: true }))
  })
  peers.gate.decide(({ path }) => (path === '/denied' ? DENIED : { allow: true }))
  // More than a connection's initial window many times over.
  for (let round = 0; round < 40; round += 1) {
    const stream = peers.client.request({ ':method': 'POST', ':path': '/denied' })
    stream.on('error', () => {})
    stream.end(Buffer.alloc(30_000))
    stream.resume()
    await once(stream, 'close')
  }
  const allowed = await call(peers.client, { ':method': 'POST', ':path': '/ok' }, Buffer.alloc(500_000))
  t.equal(allowed.headers[':status'], 200)
  t.ok(
    (peers.client.state.remoteWindowSize ?? 0) > 0,
    `${peers.client.state.remoteWindowSize} bytes of the window left`,
  )
})

t.test('the windows do not drift on the side of the application either', async t => {
  const body = Buffer.alloc(200_000)
  await using peers = await mesh(stream => {
    stream.respond({ ':status': 200 })
    stream.end(body)
  })
  for (let round = 0; round < 30; round += 1) {
    const stream = peers.client.request({ ':path': '/cut' })
    stream.on('error', () => {})
    await once(stream, 'data')
    stream.close(constants.NGHTTP2_CANCEL)
    await once(stream, 'close')
  }
  t.equal((await call(peers.client, {})).body.length, body.length)
})

t.test('resets travel both ways with their code', async t => {
  const server = Promise.withResolvers<number | undefined>()
  await using peers = await mesh((stream, { ':path': path }) => {
    if (path === '/refuse') stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
    else {
      stream.respond({ ':status': 200 })
      stream.write('begun')
      stream.on('close', () => server.resolve(stream.rstCode))
    }
  })
  t.equal(await codeOf(peers.client.request({ ':path': '/refuse' })), constants.NGHTTP2_ENHANCE_YOUR_CALM)
  const stream = peers.client.request({ ':path': '/wait' })
  stream.on('error', () => {})
  await once(stream, 'data')
  stream.close(constants.NGHTTP2_CANCEL)
  t.equal(await server.promise, constants.NGHTTP2_CANCEL)
  await peers.gate.ended(2)
  t.same(
    peers.gate.outcomes.map(({ status }) => status),
    [0, 200],
  )
})

t.test('a revoked request is cut off on both sides, its neighbours live on', async t => {
  const server = Promise.withResolvers<number | undefined>()
  await using peers = await mesh((stream, headers) => {
    if (headers[':path'] === '/revoked') stream.on('close', () => server.resolve(stream.rstCode))
    echo(stream, headers, [])
  })
  const [revoked, kept] = ['/revoked', '/kept'].map(path =>
    peers.client.request({ ':method': 'POST', ':path': path }),
  ) as [ClientHttp2Stream, ClientHttp2Stream]
  await Promise.all([once(revoked, 'response'), once(kept, 'response')])
  peers.gate.decide(({ path }) => (path === '/revoked' ? DENIED : { allow: true }))
  t.equal(await codeOf(revoked), constants.NGHTTP2_CANCEL)
  t.equal(await server.promise, constants.NGHTTP2_CANCEL)
  kept.end('still here')
  t.equal((await buffer(kept)).toString(), 'still here')
  await peers.gate.ended(2)
  t.match(peers.gate.outcomes[0], {
    request: { path: '/revoked' },
    status: 200,
    refusal: { code: 'PSTN_POLICY_DENIED', policy: 'shop/api' },
  })
})

t.test('GOAWAY travels, and what is under way ends in order', async t => {
  const streams: ServerHttp2Stream[] = []
  await using peers = await mesh((stream, headers) => {
    streams.push(stream)
    echo(stream, headers, [])
  })
  const stream = peers.client.request({ ':method': 'POST' })
  await once(stream, 'response')
  const goaway = once(peers.client, 'goaway')
  streams[0]?.session?.close()
  t.equal((await goaway)[0], constants.NGHTTP2_NO_ERROR)
  stream.end('the end')
  t.equal((await buffer(stream)).toString(), 'the end')
  await once(peers.client, 'close')
  await ended(peers.gate)
  t.same(peers.gate.ends, [{ outcome: 'ended' }])
})

t.test('a client that closes in order ends the application’s connection in order', async t => {
  await using peers = await mesh(echo)
  await call(peers.client, { ':method': 'POST' }, Buffer.from('x'))
  peers.client.close()
  await ended(peers.gate)
  t.same(peers.gate.ends, [{ outcome: 'ended' }])
})

t.test('a stalled reader holds back its sender, and not its neighbours', async t => {
  let sent = 0
  await using peers = await mesh((stream, headers) => {
    if (headers[':path'] !== '/stalled') return echo(stream, headers, [])
    stream.respond({ ':status': 200 })
    const more = () => {
      while (sent < 100_000_000 && !stream.destroyed) {
        sent += 65_536
        if (!stream.write(Buffer.alloc(65_536))) return stream.once('drain', more)
      }
      return stream.end()
    }
    more()
  })
  const stalled = peers.client.request({ ':path': '/stalled' })
  stalled.on('error', () => {})
  await once(stalled, 'response')
  stalled.pause()
  const neighbour = await call(peers.client, { ':method': 'POST' }, Buffer.from('not stalled'))
  t.equal(neighbour.body.toString(), 'not stalled')
  t.ok(sent < 2_000_000, `${sent} bytes were taken from the application`)
})

t.test('a client that does not read at all holds back its sender', async t => {
  let sent = 0
  await using peers = await mesh(stream => {
    stream.respond({ ':status': 200 })
    const more = () => {
      while (sent < 200_000_000 && !stream.destroyed) {
        sent += 65_536
        if (!stream.write(Buffer.alloc(65_536))) return stream.once('drain', more)
      }
      return stream.end()
    }
    more()
  })
  const socket = connectTcp(peers.gate.port, '127.0.0.1')
  socket.write(
    // Windows are open wide: only TCP holds the sender back.
    Buffer.concat([
      CONNECTION_PREFACE,
      settingsFrame([[Setting.initialWindowSize, MAX_WINDOW]]),
      windowUpdateFrame(0, MAX_WINDOW - INITIAL.window),
      headersFrames(1, new HpackEncoder().encode(GET), true),
    ]),
  )
  await once(socket, 'data')
  socket.pause()
  const before = process.memoryUsage().rss
  await new Promise(resolve => setTimeout(resolve, 500))
  const taken = sent
  await new Promise(resolve => setTimeout(resolve, 200))
  t.equal(sent, taken, 'nothing more is taken from the application')
  t.ok(sent < 60_000_000, `${sent} bytes were`)
  t.ok(process.memoryUsage().rss - before < 60_000_000)
  socket.destroy()
})

t.test('extended CONNECT passes where the application offers it, and as a GET for policies', async t => {
  const chat: Behaviour = (stream, headers) => {
    stream.respond({ ':status': 200 })
    stream.write(`${headers[':protocol']} `)
    stream.pipe(stream)
  }
  const webSocket = { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', ':scheme': 'http' }
  await using offers = await mesh(chat, { enableConnectProtocol: true })
  await once(offers.client, 'remoteSettings')
  const stream = offers.client.request(webSocket)
  stream.end('hello')
  t.equal((await buffer(stream)).toString(), 'websocket hello')
  await offers.gate.ended(1)
  t.match(offers.gate.outcomes, [{ request: { method: 'GET', path: '/chat' }, status: 200 }])
})

t.test('a plain CONNECT is refused', async t => {
  await using peers = await mesh(echo)
  const stream = peers.client.request({ ':method': 'CONNECT', ':authority': 'elsewhere:443' })
  const [headers] = await once(stream, 'response')
  t.match(headers, { ':status': 400, 'postern-code': 'PSTN_HTTP_UPGRADE' })
})

t.test('an aborted connection is reset, and its requests say why', async t => {
  await using peers = await mesh(() => {})
  const stream = peers.client.request({})
  stream.on('error', () => {})
  await new Promise(resolve => setTimeout(resolve, 50))
  const reason = new Error('drain is over')
  peers.gate.abort(reason)
  await new Promise<void>(resolve => peers.client.once('close', resolve))
  await ended(peers.gate)
  t.same(peers.gate.ends, [{ outcome: 'aborted', reason }])
  t.equal(peers.gate.outcomes.length, 1)
})

async function ended(gate: TestGate): Promise<void> {
  while (gate.ends.length === 0) await new Promise(resolve => setTimeout(resolve, 10))
}

import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request as httpRequest, type RequestListener } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { applicationServer, compiled } from '../support/data-path.ts'
import { ask, collect, denyPath, type GatedPath, gatedPath, reader } from '../support/gated-path.ts'
import { CLIENT_ID, endOf, SERVER_ID } from '../support/tunnel-pair.ts'

const MIB = 1024 * 1024

const http = (listener: RequestListener): Promise<GatedPath> => gatedPath(createServer(listener))

/** Answers with what it saw. */
const mirror: RequestListener = async (request, response) => {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  const { method, url, rawHeaders, rawTrailers } = request
  const body = Buffer.concat(chunks).toString('latin1')
  response.end(JSON.stringify({ method, url, rawHeaders, rawTrailers, body }))
}

const get = (path: string, fields = ''): string => `GET ${path} HTTP/1.1\r\nHost: shop\r\n${fields}\r\n`

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex')

t.test('a kept connection carries many requests, and the log counts them', async t => {
  let connections = 0
  const server = createServer((request, response) => response.end(request.url)).on('connection', () => {
    connections += 1
  })
  await using path = await gatedPath(server)
  for (let n = 0; n < 200; n++) {
    const { status, body } = await ask(path.agent, { path: `/${n}` })
    if (status !== 200 || body !== `/${n}`) t.fail(`${n}: ${status} ${body}`)
  }
  path.agent.destroy()
  t.equal(connections, 1)
  t.match(await path.server.next('connection'), { protocol: 'http1', requests: 200, outcome: 'ok' })
  t.match(
    path.server.metrics.render(),
    /postern_http_request_seconds_count\{protocol="http1",status="2xx"\} 200/,
  )
})

t.test('the caller is named to the application, and nobody can name himself', async t => {
  await using path = await http(mirror)
  const claimed = [
    'X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/admin\r\n',
    'x-forwarded-client-cert: again\r\n',
    'X_Forwarded_Client_Cert: underscores\r\n',
    'x.forwarded-client_CERT: a mixture\r\n',
  ].join('')
  for (const [from, dial] of [
    ['tunnel', path.dial],
    ['plaintext', path.dialPlain],
  ] as const) {
    const socket = dial()
    socket.write(`GET / HTTP/1.1\r\n${claimed}Host: shop\r\nX-Last: 1\r\nConnection: close\r\n\r\n`)
    const answer = await reader(socket).all()
    const { rawHeaders } = JSON.parse(answer.slice(answer.indexOf('{')))
    const said = rawHeaders.filter((_: string, i: number) => /client.cert/i.test(rawHeaders[i - (i % 2)]))
    if (from === 'plaintext') t.same(said, [], 'without a sidecar nobody is known')
    else {
      t.equal(said.length, 2)
      t.match(said[1], new RegExp(`^By=${SERVER_ID};Hash=[0-9a-f]{64};URI=${CLIENT_ID}$`))
    }
    t.match(rawHeaders.join(), /Host,shop,X-Last,1,Connection,close$/, 'every other line is there')
    socket.destroy()
  }
  const socket = path.dial()
  socket.write(get('/', 'Connection: x-forwarded-client-cert\r\n'))
  t.match(await reader(socket).all(), /^HTTP\/1\.1 400 .*PSTN_HTTP_MALFORMED/s, 'nor have it removed')
})

t.test('what was matched is what the application gets', async t => {
  await using path = await http(mirror)
  path.policy.set(compiled([denyPath('/admin*')]))
  const { body } = await ask(path.agent, { path: '/%61/./b//c/../d%2a?x=/../y' })
  t.equal(JSON.parse(body).url, '/a/b/d%2A?x=/../y')
  for (const evasion of [
    '/admin',
    '/./admin',
    '//admin',
    '/%61dmin',
    '/x/../admin',
    '/admin;x=1',
    '/admin/x',
  ]) {
    const { status, headers } = await ask(path.agent, { path: evasion })
    t.same([status, headers['postern-code']], [403, 'PSTN_POLICY_DENIED'], evasion)
  }
})

t.test('pipelined answers come in order, refused ones in their turn, and the connection is kept', async t => {
  await using path = await http(async (request, response) => {
    if (request.url === '/slow') await delay(50)
    response.end(`<${request.url}>`)
  })
  path.policy.set(compiled([denyPath('/no')]))
  const socket = path.dial()
  const paths = ['/slow', '/no', ...Array.from({ length: 100 }, (_, n) => (n % 10 === 9 ? '/no' : `/${n}`))]
  socket.write(paths.map(one => get(one)).join('') + get('/end'))
  const received = await reader(socket).until('</end>')
  const order = [...received.matchAll(/<(.+?)>|PSTN_POLICY_DENIED\n/g)].map(([, one]) => one ?? '/no')
  t.same(order, [...paths, '/end'])
  t.match(await path.server.next('decision'), {
    code: 'PSTN_POLICY_DENIED',
    policy: 'shop/no-path',
    request: { method: 'GET', host: 'shop', path: '/no' },
    source: { identity: CLIENT_ID },
  })
  socket.destroy()
})

t.test('answers without a body are not waited for: HEAD, 204, 304', async t => {
  await using path = await http((request, response) => {
    response.statusCode = Number(request.url?.slice(1))
    if (request.method === 'HEAD') response.setHeader('content-length', 1000)
    response.end()
  })
  const socket = path.dial()
  socket.write(`HEAD /200 HTTP/1.1\r\nHost: shop\r\n\r\n${get('/204')}${get('/304')}${get('/201')}`)
  const received = await reader(socket).until(' 201 ')
  t.same(
    received.match(/HTTP\/1\.1 \d+/g),
    ['200', '204', '304', '201'].map(status => `HTTP/1.1 ${status}`),
  )
  socket.destroy()
})

t.test('trailers pass in both directions', async t => {
  await using path = await http(async (request, response) => {
    for await (const _ of request);
    response.writeHead(200, { trailer: 'x-sum' })
    response.write('body')
    response.addTrailers({ 'x-sum': request.trailers['x-count'] })
    response.end()
  })
  const request = httpRequest({
    agent: path.agent,
    method: 'POST',
    headers: { host: 'shop', trailer: 'x-count', 'transfer-encoding': 'chunked' },
  })
  request.write('one')
  request.addTrailers({ 'x-count': '1' })
  request.end()
  const [response] = await once(request, 'response')
  t.match(await collect(response), { status: 200, body: 'body', trailers: { 'x-sum': '1' } })
})

t.test('a caller that expects 100 is told by the application', async t => {
  const server = createServer(mirror)
  let asked = 0
  server.on('checkContinue', (request, response) => {
    asked += 1
    if (request.url === '/no') response.writeHead(413, { connection: 'close' }).end()
    else {
      response.writeContinue()
      mirror(request, response)
    }
  })
  await using path = await gatedPath(server)
  const expecting = (target: string) =>
    `POST ${target} HTTP/1.1\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`
  const socket = path.dial()
  const answer = reader(socket)
  socket.write(expecting('/yes'))
  await answer.until('HTTP/1.1 100 Continue\r\n\r\n')
  socket.write('hello')
  t.match(await answer.until('}'), /"body":"hello"/)
  socket.write(expecting('/no'))
  t.match(await answer.until(' 413 '), /413/)
  t.equal(asked, 2)
  socket.destroy()

  path.policy.set(compiled([denyPath('/no')]))
  const refused = path.dial()
  refused.write(expecting('/no'))
  t.match(
    await reader(refused).all(),
    /^HTTP\/1\.1 403 .*connection: close/s,
    'a refusal comes instead, and ends it',
  )
})

t.test('events and late answers pass as they come', async t => {
  const ready = Promise.withResolvers<(event: string) => void>()
  await using path = await http(async (request, response) => {
    if (request.url === '/poll') {
      setTimeout(() => response.end('late'), 300)
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    ready.resolve(event => response.write(`data: ${event}\n\n`))
  })
  const socket = path.dial()
  const events = reader(socket)
  socket.write(get('/events'))
  const send = await ready.promise
  for (const event of ['one', 'two', 'three']) {
    send(event)
    await events.until(`data: ${event}`)
  }
  socket.destroy()
  t.match(await ask(path.agent, { path: '/poll' }), { status: 200, body: 'late' })
})

t.test('a WebSocket becomes opaque behind its 101, and no byte overtakes it', async t => {
  const seen: string[] = []
  const server = createServer((_request, response) => response.end('plain'))
  server.on('upgrade', async (request, socket: Socket, head: Buffer) => {
    seen.push(`${request.url}: ${head.length} bytes with the head`)
    await delay(50)
    if (request.url === '/no') {
      // Node hands over the socket: an answer by hand, and the connection stays HTTP.
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
      return
    }
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
    socket.on('data', chunk => socket.write(chunk)).on('end', () => socket.end())
  })
  await using path = await gatedPath(server)
  const upgrade =
    'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
  // A masked text frame (RFC 6455, section 5.7), in which a mirror sees no request.
  const frame = Buffer.from([0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])

  const socket = path.dial()
  const answer = reader(socket)
  socket.write(Buffer.concat([Buffer.from(get('/yes', upgrade)), frame]))
  const received = await answer.until(frame.toString('latin1'))
  t.match(received, /^HTTP\/1\.1 101 /)
  const bulk = randomBytes(MIB)
  socket.write(bulk)
  await answer.until(bulk.subarray(-16).toString('latin1'))
  socket.end()
  t.equal((await answer.all()).length, received.length + MIB)

  const refused = path.dial()
  refused.write(get('/no', upgrade) + get('/smuggled'))
  t.match(await reader(refused).all(), /^HTTP\/1\.1 403 .*\r\n\r\n$/s)
  t.same(seen, ['/yes: 0 bytes with the head', '/no: 0 bytes with the head'], 'the frames waited')
})

t.test('an application that switches unasked, or answers what is no HTTP, is a 502', async t => {
  for (const answer of ['HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n', 'SSH-2.0-x\r\n']) {
    await using path = await gatedPath(
      applicationServer(socket => socket.once('data', () => socket.write(answer))),
    )
    t.match(await ask(path.agent), { status: 502, headers: { 'postern-code': 'PSTN_HTTP_ANSWER' } })
    t.match(await path.server.next('decision'), { code: 'PSTN_HTTP_ANSWER', request: { path: '/' } })
  }
})

t.test('bodies of every framing arrive whole in both directions', async t => {
  await using path = await http(async (request, response) => {
    const hash = createHash('sha256')
    const chunks: Buffer[] = []
    for await (const chunk of request) {
      hash.update(chunk)
      chunks.push(chunk)
    }
    const body = Buffer.concat(chunks)
    response.setHeader('x-hash', hash.digest('hex'))
    if (request.url === '/length') response.setHeader('content-length', body.length)
    if (request.url === '/close')
      response.setHeader('connection', 'close').useChunkedEncodingByDefault = false
    response.end(body)
  })
  for (const target of ['/length', '/chunked', '/close']) {
    const body = randomBytes(8 * MIB + 7)
    const request = httpRequest({
      agent: path.agent,
      method: 'POST',
      path: target,
      headers: { host: 'shop' },
    })
    const answer = once(request, 'response').then(([response]) => collect(response))
    for (let at = 0; at < body.length; ) {
      const size = 1 + Math.floor(Math.random() * 100_000)
      if (!request.write(body.subarray(at, at + size))) await once(request, 'drain')
      at += size
    }
    request.end()
    const { headers, body: returned } = await answer
    t.equal(headers['x-hash'], sha256(body), target)
    t.equal(sha256(Buffer.from(returned, 'latin1')), sha256(body), target)
  }
})

t.test('a caller that ends its direction still gets its answer', async t => {
  await using path = await gatedPath(
    applicationServer(async socket => {
      await once(socket, 'data')
      await once(socket.resume(), 'end')
      socket.end('HTTP/1.1 200 OK\r\n\r\nuntil the end')
    }),
  )
  const socket = path.dial()
  socket.end(get('/'))
  t.match(await reader(socket).all(), /\r\n\r\nuntil the end$/)
})

t.test('an early answer to an upload arrives, although the application reads no further', async t => {
  await using path = await gatedPath(
    applicationServer(socket => {
      socket.once('data', () => {
        socket.pause()
        socket.end('HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig')
        setTimeout(() => socket.destroy(), 20)
      })
    }),
  )
  const socket = path.dial()
  const answer = reader(socket)
  socket.write('POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000000\r\n\r\n')
  const upload = setInterval(() => socket.write(Buffer.alloc(65_536)), 1)
  t.match(await answer.until('big'), /^HTTP\/1\.1 413/)
  clearInterval(upload)
  socket.destroy()
})

t.test('an answer that is cut off reaches the caller as cut off', async t => {
  await using path = await gatedPath(
    applicationServer(socket =>
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf')
        setTimeout(() => socket.end(), 20)
      }),
    ),
  )
  const socket = path.dial()
  socket.write(get('/'))
  const [error] = await once(socket.resume(), 'error')
  t.equal(error.code, 'ECONNRESET')
})

t.test('a caller that does not read holds its application back, in flat memory', async t => {
  let written = 0
  await using path = await http(async (_request, response) => {
    const block = Buffer.alloc(MIB)
    for (let n = 0; n < 400 && !response.destroyed; n++) {
      written += block.length
      if (!response.write(block)) await once(response, 'drain').catch(() => undefined)
    }
    response.end()
  })
  const socket = path.dial()
  socket.pause()
  socket.write(get('/'))
  let before = -1
  while (before !== written) {
    before = written
    await delay(500)
  }
  t.ok(written > 0 && written < 64 * MIB, `it waits when ${Math.round(written / MIB)} MiB are under way`)
  const memory = process.memoryUsage().rss
  await delay(1000)
  t.equal(written, before, 'and goes on waiting')
  const grown = process.memoryUsage().rss - memory
  t.ok(grown < 32 * MIB, `${Math.round(grown / MIB)} MiB more`)
  socket.destroy()
})

t.test('a policy that comes to forbid a live request ends its connection, and no other', async t => {
  await using path = await http((_request, response) => void response.write('begun'))
  const [doomed, kept] = [path.dial(), path.dial()]
  const [first, second] = [reader(doomed), reader(kept)]
  doomed.write(get('/secret'))
  kept.write(get('/open'))
  await Promise.all([first.until('begun'), second.until('begun')])
  path.policy.set(compiled([denyPath('/secret')]))
  t.equal(await endOf(doomed), 'cut off')
  t.match(await path.server.next('connection'), { outcome: 'closed', code: 'PSTN_POLICY_DENIED' })
  t.notOk(kept.destroyed)
  kept.destroy()
})

t.test('what is no request is told so and closed, on the tunnel and in plaintext', async t => {
  await using path = await http(mirror)
  for (const dial of [path.dial, path.dialPlain]) {
    const socket = dial()
    socket.write('\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03')
    t.match(await reader(socket).all(), /^HTTP\/1\.1 400 Bad Request\r\npostern-code: PSTN_HTTP_MALFORMED/)
    socket.destroy()
  }
  t.match(
    path.server.metrics.render(),
    /requests_refused_total\{protocol="http1",code="PSTN_HTTP_MALFORMED"\} 2/,
  )
})

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2'
import { connect as connectTcp, createServer, type Socket } from 'node:net'
import { mock } from 'node:test'
import { setTimeout as delay, setInterval } from 'node:timers/promises'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { FrameReader } from '../../proxy/http2/frame-reader.ts'
import {
  CONNECTION_PREFACE,
  pingFrame,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../../proxy/http2/frames.ts'
import { tunnelTls } from '../../proxy/identify/tunnel-tls.ts'
import type { TunnelRequest } from '../../proxy/tunnel/interface.ts'
import { DIALER_LIMITS, LINGER_MS, NOTICE_MS, SERVER_LIMITS, UNREAD_MS } from '../../proxy/tunnel/settings.ts'
import { PosternError } from '../../shared/errors.ts'
import { testAuthority } from '../support/certificates.ts'
import { DuplexOf, withDuplex } from '../support/duplex-of.ts'
import { greedyCaller } from '../support/greedy-caller.ts'
import {
  CLIENT_ID,
  endOf,
  nextText,
  readAll,
  SERVER_ID,
  TRUST_DOMAIN,
  type TunnelPair,
  tunnelPair,
} from '../support/tunnel-pair.ts'

const MIB = 1024 * 1024

/** An application that sends back what it gets, and ends when its caller does. */
const echo = withDuplex(request => {
  const stream = request.accept()
  stream.pipe(stream)
})

/** Hands each accepted stream to the test. */
function acceptor() {
  const accepted: DuplexOf[] = []
  const waiting: ((stream: DuplexOf) => void)[] = []
  return {
    onRequest: withDuplex(request => {
      const stream = request.accept()
      const next = waiting.shift()
      if (next) next(stream)
      else accepted.push(stream)
    }),
    next: (): Promise<DuplexOf> => {
      const { promise, resolve } = Promise.withResolvers<DuplexOf>()
      const stream = accepted.shift()
      if (stream) resolve(stream)
      else waiting.push(resolve)
      return promise
    },
  }
}

/** A TLS client with the pair’s certificate, which is not our dialler. */
const tlsTo = (
  { clientTls, server: { port } }: TunnelPair,
  options: ConnectionOptions = { host: '127.0.0.1', port },
): TLSSocket =>
  connectTls({
    ...clientTls.get()?.context,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: false,
    ...options,
  })

const http2Over = (socket: TLSSocket): ClientHttp2Session =>
  connectHttp2('https://127.0.0.1', { createConnection: () => socket })

t.test('a stream carries bytes both ways, and each side knows who the other is', async t => {
  const requests: TunnelRequest[] = []
  await using pair = await tunnelPair({
    onRequest: request => {
      requests.push(request)
      echo(request)
    },
  })
  const headers = { traceparent: '00-1-2-01', forwarded: 'for=127.0.0.1', 'x-other': 'dropped' }
  const { stream, peer } = await pair.open({ headers })
  stream.end('knock')
  t.equal(String(await readAll(stream)), 'knock')
  t.equal(peer.identity, SERVER_ID)
  const [request] = requests
  t.match(request, { peer: { identity: CLIENT_ID }, authority: '127.0.0.1:8080' })
  t.same(request?.headers, { traceparent: '00-1-2-01', forwarded: 'for=127.0.0.1' })
})

t.test('streams share a connection, and spill to another beyond its room', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const streams = await Promise.all(Array.from({ length: 600 }, () => pair.open()))
  t.equal(new Set(streams.map(({ peer }) => pair.socketOf(peer))).size, 3)
  for (const { stream } of streams) stream.end('x')
  for (const { stream } of streams) t.equal(String(await readAll(stream)), 'x')
})

t.test('a connection on which no stream was opened ends, too, when it has been idle', async t => {
  const relay = createServer()
  const dialled = once(relay, 'connection')
  await using pair = await tunnelPair({
    onRequest: echo,
    dialPort: async port => {
      relay.on('connection', (near: Socket) => near.pipe(connectTcp({ host: '127.0.0.1', port })).pipe(near))
      await once(relay.listen(0, '127.0.0.1'), 'listening')
      return Number(Reflect.get(Object(relay.address()), 'port'))
    },
  })
  t.teardown(() => relay.close())
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const controller = new AbortController()
  const opening = pair.open({}, controller.signal)
  controller.abort(new Error('the application is gone'))
  await t.rejects(opening, { message: 'the application is gone' })
  const [near] = await dialled
  await ticks(20)
  t.match(near, { destroyed: false, readableEnded: false })
  mock.timers.tick(DIALER_LIMITS.idleMs)
  await ticks(20)
  t.match(near, { readableEnded: true })
})

/** Of ten milliseconds, also where setTimeout is mocked. */
async function ticks(count: number): Promise<void> {
  const interval = setInterval(10)
  for (let left = count; left > 0; left -= 1) await interval.next()
  await interval.return?.()
}

t.test('a peer of another identity is refused before a CONNECT is sent', async t => {
  const requests: TunnelRequest[] = []
  await using pair = await tunnelPair({
    serverId: `spiffe://${TRUST_DOMAIN}/ns/shop/sa/impostor`,
    onRequest: request => requests.push(request),
  })
  await t.rejects(pair.open(), { code: 'PSTN_PEER_UNEXPECTED' })
  t.same(requests, [])
})

t.test('a stranger learns by which code it was refused, and no request of it is seen', async t => {
  const requests: TunnelRequest[] = []
  await using pair = await tunnelPair({
    clientAuthority: await testAuthority(TRUST_DOMAIN),
    onRequest: request => requests.push(request),
  })
  await t.rejects(pair.open(), { code: 'PSTN_PEER_UNTRUSTED' })
  t.match(pair.refused, [{ code: 'PSTN_PEER_UNTRUSTED' }])
  t.same(requests, [])
})

t.test('a refusal carries its status and code', async t => {
  await using pair = await tunnelPair({ onRequest: request => request.refuse(403, 'PSTN_POLICY_DENIED') })
  await t.rejects(pair.open(), { code: 'PSTN_POLICY_DENIED' })
  await t.rejects(pair.open(), { code: 'PSTN_POLICY_DENIED' }, 'and the connection is used again')
})

t.test('what is no CONNECT is answered 400', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const session = http2Over(tlsTo(pair))
  const stream = session.request({ ':method': 'GET', ':path': '/' })
  const [headers] = await once(stream, 'response')
  t.match(headers, { ':status': 400, 'postern-code': 'PSTN_TUNNEL_MALFORMED' })
  session.destroy()
})

t.test('of what a peer sent a refusal quotes little', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const session = http2Over(tlsTo(pair))
  const long = 'X'.repeat(5_000)
  const other = session.request({ ':method': long, ':path': '/' })
  await once(other, 'response')
  const malformed = session.request({ ':method': 'GET', ':path': '/', [long.toLowerCase()]: '\x01' })
  await t.rejects(once(malformed, 'response'), { message: /PROTOCOL_ERROR/ })
  t.same(
    pair.refused.map(({ code }) => code),
    ['PSTN_TUNNEL_MALFORMED', 'PSTN_TUNNEL_MALFORMED'],
  )
  for (const { message } of pair.refused) t.ok(message.length < 200, message.slice(0, 50))
  session.destroy()
})

t.test('a peer that resets its requests has no more of them under way than one that waits', async t => {
  const requests: TunnelRequest[] = []
  await using pair = await tunnelPair({ onRequest: request => requests.push(request) })
  const session = http2Over(tlsTo(pair))
  session.on('error', () => {})
  const ask = () =>
    session.request({ ':method': 'CONNECT', ':authority': '127.0.0.1:8080' }).on('error', () => {})
  const most = SERVER_LIMITS.maxConcurrentStreams
  while (requests.length < most) {
    const streams = Array.from({ length: 256 }, ask)
    const expected = requests.length + streams.length
    while (requests.length < expected) await delay(5)
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL)
  }
  const signal = AbortSignal.timeout(5_000)
  await t.rejects(once(ask(), 'response', { signal }), { message: /REFUSED_STREAM/ })
  t.same(pair.limits, ['tunnel_streams'])
  requests[0]?.refuse(503, 'PSTN_APP_UNREACHABLE')
  ask()
  while (requests.length === most && !signal.aborted) await delay(5)
  t.equal(requests.length, most + 1, 'for each that is answered there is room for another')
  session.destroy()
})

t.test('a client without a certificate, without h2 or without TLS gets nothing', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const { port } = pair.server
  const { key: _key, cert: _cert, ...anonymous } = pair.clientTls.get()?.context ?? {}
  const options = { host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['h2'] }
  const session = http2Over(connectTls({ ...anonymous, ...options }))
  session.on('error', () => {})
  const [code, , opaque] = await once(session, 'goaway')
  t.equal(code, constants.NGHTTP2_INADEQUATE_SECURITY)
  t.equal(String(opaque), 'PSTN_PEER_NO_CERTIFICATE')

  const http1 = connectTls({ ...pair.clientTls.get()?.context, ...options, ALPNProtocols: ['http/1.1'] })
  await t.rejects(once(http1, 'secureConnect'))
  t.match(pair.refused, [{ code: 'PSTN_PEER_NO_CERTIFICATE' }, { code: 'PSTN_TLS_FAILED' }])
})

t.test('one neighbour cannot take all handshakes, and each of its refusals is counted', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const { port } = pair.server
  const greedy = await greedyCaller(t, port, 400)
  const other = tlsTo(pair, { socket: connectTcp({ host: '127.0.0.1', localAddress: '127.0.0.2', port }) })
  await once(other, 'secureConnect')
  other.destroy()
  t.equal(greedy.open().length, 64)
  t.equal(pair.refused.filter(({ code }) => code === 'PSTN_LIMIT').length, 400 - 64)
  t.equal(pair.refused.length, 400 - 64, 'once each')
  t.same(pair.limits, Array(400 - 64).fill('tunnel_handshakes'))
})

t.test('one neighbour cannot take all connections, and whoever has a tunnel is served', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const { port } = pair.server
  const { maxConnectionsPerAddress: most, maxHandshakesPerAddress: atOnce } = SERVER_LIMITS
  const options = { ...pair.clientTls.get()?.context, ALPNProtocols: ['h2'], rejectUnauthorized: false }
  const sockets: TLSSocket[] = []
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  while (sockets.length < most) {
    const next = Array.from({ length: Math.min(atOnce / 2, most - sockets.length) }, () =>
      connectTls({ ...options, socket: connectTcp({ host: '127.0.0.1', localAddress: '127.0.0.3', port }) }),
    )
    sockets.push(...next)
    await Promise.all(next.map(socket => once(socket.resume(), 'secureConnect')))
  }
  t.same(pair.limits, [])
  const beyond = connectTls({
    ...options,
    socket: connectTcp({ host: '127.0.0.1', localAddress: '127.0.0.3', port }),
  })
  await t.rejects(once(beyond, 'secureConnect'))
  t.same(pair.limits, ['tunnel_connections'])
  t.match(pair.refused, [{ code: 'PSTN_LIMIT' }])
  const { stream } = await pair.open()
  stream.end('served')
  t.equal(String(await readAll(stream)), 'served')
})

t.test('before there is a certificate nothing is opened, on either side', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const [server, client] = [pair.serverTls.get(), pair.clientTls.get()]
  pair.serverTls.set(undefined)
  await t.rejects(pair.open(), { code: 'PSTN_TLS_FAILED' })
  pair.serverTls.set(server)
  pair.clientTls.set(undefined)
  await t.rejects(pair.open(), { code: 'PSTN_NOT_READY' })
  pair.clientTls.set(client && { ...client, notAfter: new Date(0) })
  await t.rejects(pair.open(), { code: 'PSTN_CERT_EXPIRED' })
  pair.clientTls.set(client)
  const { stream } = await pair.open()
  stream.end('x')
  t.equal(String(await readAll(stream)), 'x')
})

t.test('nobody at the tunnel port is PSTN_PEER_UNREACHABLE', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  await pair.server[Symbol.asyncDispose]()
  await t.rejects(pair.open(), { code: 'PSTN_PEER_UNREACHABLE' })
})

t.test('certificates rotate on both sides under traffic, and no stream fails', async t => {
  const serials = new Set<string>()
  await using pair = await tunnelPair({
    onRequest: request => {
      serials.add(request.peer.serial)
      echo(request)
    },
  })
  const { stream: kept, peer } = await pair.open()
  kept.write('before')
  t.equal(await nextText(kept), 'before')
  const serverSerials = new Set([peer.serial])
  for (let generation = 2; generation <= 4; generation += 1) {
    const [client, server] = await Promise.all([
      pair.issue(CLIENT_ID, generation),
      pair.issue(SERVER_ID, generation),
    ])
    const traffic = Array.from({ length: 100 }, async (_, index) => {
      if (index === 50) {
        pair.serverTls.set(server)
        pair.clientTls.set(client)
      }
      const { stream, peer } = await pair.open()
      serverSerials.add(peer.serial)
      stream.end('x')
      return String(await readAll(stream))
    })
    t.same(new Set(await Promise.all(traffic)), new Set(['x']))
  }
  t.equal(serials.size, 4, 'each of the client’s certificates was seen')
  t.equal(serverSerials.size, 4, 'and each of the server’s')
  kept.end('after')
  t.equal(String(await readAll(kept)), 'after', 'a stream of the first certificate goes on')
})

t.test('a server that rotates alone is met with its new certificate by the next stream', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const { stream: kept, peer: former } = await pair.open()
  const next = await pair.issue(SERVER_ID, 2)
  pair.serverTls.set(next)
  await delay(50)
  const { stream, peer } = await pair.open()
  t.not(peer.serial, former.serial)
  stream.end('x')
  t.equal(String(await readAll(stream)), 'x')
  kept.end('still here')
  t.equal(String(await readAll(kept)), 'still here', 'a stream of the former certificate goes on')

  pair.serverTls.set({ ...next })
  await delay(50)
  t.equal((await pair.open()).peer, peer, 'a new trust bundle alone retires nothing')
})

for (const role of ['serverTls', 'clientTls'] as const) {
  t.test(`after a rotation of ${role} the last stream still ends in order, whoever ends last`, async t => {
    const server = acceptor()
    await using pair = await tunnelPair(server)
    const { stream: client, peer } = await pair.open()
    const accepted = await server.next()
    pair[role].set(await pair.issue(role === 'serverTls' ? SERVER_ID : CLIENT_ID, 2))
    const closed = once(pair.socketOf(peer), 'close')
    accepted.end('answer')
    t.equal(String(await readAll(client)), 'answer')
    const lastWords = randomBytes(MIB)
    const received = readAll(accepted)
    client.end(lastWords)
    t.ok((await received).equals(lastWords), 'what the client said last has arrived')
    await closed
  })
}

for (const [whose, role] of [
  ['the server’s', 'serverTls'],
  ['the client’s', 'clientTls'],
] as const) {
  t.test(`a connection takes no new stream once ${whose} certificate has expired`, async t => {
    await using pair = await tunnelPair({ onRequest: echo })
    const identity = role === 'serverTls' ? SERVER_ID : CLIENT_ID
    const notAfter = new Date(Date.now() + 2_000)
    const short = (await pair.authority.issue({ identity, notAfter })).credential(2)
    pair[role].set(tunnelTls(short, pair.authority.bundle))
    const { stream: kept, peer } = await pair.open()
    const socket = pair.socketOf(peer)
    await delay(notAfter.getTime() - Date.now() + 200)
    await t.rejects(pair.open(), { code: /EXPIRED/ })
    t.match(socket, { destroyed: false })
    kept.end('still here')
    t.equal(String(await readAll(kept)), 'still here')
    await delay(50)
    t.match(socket, { destroyed: true }, 'and ends with its last one')
  })
}

t.test('a server tells even an idle client that ignores it: the connection ends at expiry', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const notAfter = new Date(Date.now() + 2_000)
  const short = (await pair.authority.issue({ identity: SERVER_ID, notAfter })).credential(2)
  pair.serverTls.set(tunnelTls(short, pair.authority.bundle))
  const session = http2Over(tlsTo(pair))
  await once(session, 'goaway')
  t.ok(Date.now() >= notAfter.getTime() - 1_000)
  await once(session, 'close')
})

t.test('a server that drains finishes its streams and takes no new ones', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const { stream } = await pair.open()
  let drained = false
  const drain = pair.server.drain().then(() => {
    drained = true
  })
  const { stream: onItsWay } = await pair.open()
  onItsWay.end('so is what was on its way')
  t.equal(String(await readAll(onItsWay)), 'so is what was on its way')
  await t.rejects(pair.open(), { code: 'PSTN_PEER_UNREACHABLE' })
  t.equal(drained, false)
  stream.end('last words')
  t.equal(String(await readAll(stream)), 'last words')
  await drain
})

t.test('a connection whose handshake was under way when the drain began takes no stream either', async t => {
  const server = acceptor()
  await using pair = await tunnelPair(server)
  const slow = connectTcp(pair.server.port, '127.0.0.1')
  await once(slow, 'connect')
  await delay(20)
  const drained = pair.server.drain()
  const session = http2Over(tlsTo(pair, { socket: slow }))
  const stream = session.request({ ':method': 'CONNECT', ':authority': '127.0.0.1:8080' })
  const ends = [once(session, 'close'), once(stream, 'error'), drained]
  t.ok(await Promise.race([Promise.all(ends), delay(2_000)]))
})

t.test('a peer that restarted is reached by the next stream', async t => {
  await using pair = await tunnelPair({ onRequest: echo })
  const first = await pair.open()
  first.stream.resume()
  pair.server.closePeers(() => false, 'PSTN_PEER_UNTRUSTED')
  pair.server.closePeers(() => true, 'PSTN_PEER_UNTRUSTED')
  const opened = await Promise.all([pair.open(), pair.open(), pair.open()])
  for (const { stream } of opened) stream.end('again')
  for (const { stream } of opened) t.equal(String(await readAll(stream)), 'again')
  t.equal(await endOf(first.stream), 'cut off')
})

t.test('peers that are no longer trusted are closed at once, on either side', async t => {
  const server = acceptor()
  await using pair = await tunnelPair(server)
  const { stream } = await pair.open()
  const application = await server.next()
  const ends = [endOf(stream.resume()), endOf(application.resume())]
  pair.dialer.closePeers(() => true, 'PSTN_PEER_UNTRUSTED')
  await delay(20)
  t.notOk(stream.destroyed)
  pair.dialer.closePeers(() => false, 'PSTN_PEER_UNTRUSTED')
  t.same(await Promise.all(ends), ['cut off', 'cut off'])
})

t.test('a peer that falls silent is given up, on either side, and reached again when it is back', async t => {
  const wire = await relay(t)
  const server = acceptor()
  await using pair = await tunnelPair({ ...server, livenessMs: 100, dialPort: wire.to })
  const { stream } = await pair.open()
  const application = await server.next()
  const ends = [endOf(stream.resume()), endOf(application.resume())]
  await delay(500)
  t.notOk(stream.destroyed, 'an idle connection lives')
  wire.cut()
  const started = performance.now()
  t.same(await Promise.all(ends), ['cut off', 'cut off'])
  t.ok(performance.now() - started < 1_000)
  wire.mend()
  t.ok((await pair.open()).stream.resume())
})

t.test('a connection that was ended in order ends, too, when its peer falls silent before', async t => {
  const wire = await relay(t)
  await using pair = await tunnelPair({ onRequest: echo, livenessMs: 100, dialPort: wire.to })
  const { stream } = await pair.open()
  stream.end()
  await readAll(stream)
  wire.cut()
  pair.clientTls.set(await pair.issue(CLIENT_ID, 2))
  pair.serverTls.set(await pair.issue(SERVER_ID, 2))
  await delay(500)
  t.ok(await wire.isAbandoned(), 'on either side')
})

for (const [how, answers, withinMs] of [
  ['has read the last word', true, LINGER_MS],
  ['does not say whether it has read it', false, UNREAD_MS],
] as const) {
  t.test(`a peer that ${how} and goes on sending does not hold up a drain`, async t => {
    await using pair = await tunnelPair({ onRequest: echo })
    const options = {
      ...pair.clientTls.get()?.context,
      port: pair.server.port,
      host: '127.0.0.1',
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
      allowHalfOpen: true,
    }
    const socket = connectTls(options)
    await once(
      socket.on('error', () => {}),
      'secureConnect',
    )
    socket.write(Buffer.concat([CONNECTION_PREFACE, settingsFrame([]), settingsAckFrame()]))
    if (answers) answerPings(socket)
    else socket.resume()
    mock.timers.enable({ apis: ['setTimeout'] })
    t.teardown(() => mock.timers.reset())
    const sending = setInterval(10)
    void (async () => {
      for await (const _ of sending) if (!socket.destroyed) socket.write(windowUpdateFrame(0, 1))
    })()
    await ticks(20)
    let drained = false
    void pair.server.drain().then(() => {
      drained = true
    })
    await ticks(20)
    if (!answers) mock.timers.tick(NOTICE_MS)
    await ticks(20)
    t.ok(socket.readableEnded, 'it was told that this is the end')
    t.notOk(drained, 'and has a moment to read it')
    mock.timers.tick(withinMs)
    await ticks(20)
    t.ok(drained)
    await sending.return?.()
    socket.destroy()
  })
}

/** A client that does nothing else. */
function answerPings(socket: TLSSocket): void {
  const ignore = () => {}
  const reader = new FrameReader(
    {
      data: ignore,
      headers: ignore,
      priority: ignore,
      rstStream: ignore,
      settings: ignore,
      settingsAck: ignore,
      ping: opaque => socket.write(pingFrame(opaque, true)),
      goaway: ignore,
      windowUpdate: ignore,
      unknown: ignore,
      streamError: ignore,
    },
    { from: 'server', maxFrameSize: 16_384 },
  )
  socket.on('data', (chunk: Buffer) => reader.push(chunk))
}

/** A TCP relay that can swallow everything, as a network does whose other side is gone. */
async function relay(t: Test) {
  let silent = false
  let target = 0
  const sockets = new Set<Socket>()
  const pass = (from: Socket, to: Socket) => {
    sockets.add(from)
    from.on('error', () => {}).on('data', chunk => silent || to.write(chunk))
    from.on('end', () => silent || to.end())
    from.on('close', () => silent || to.destroy())
  }
  const server = createServer({ allowHalfOpen: true }, socket => {
    const onward = connectTcp({ port: target, host: '127.0.0.1', allowHalfOpen: true })
    pass(socket, onward)
    pass(onward, socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    to: async (port: number) => {
      target = port
      const bound = server.address()
      return typeof bound === 'object' && bound ? bound.port : 0
    },
    cut: () => {
      silent = true
    },
    mend: () => {
      silent = false
    },
    /** Whether neither end has a socket any more: only then the second byte fails, by a reset after the first. */
    isAbandoned: async () => {
      for (const _ of ['first', 'second']) {
        for (const socket of sockets) socket.write('.')
        await delay(50)
      }
      return [...sockets].every(socket => socket.destroyed)
    },
  }
}

t.test('thousands of streams that are reset at once, answered or not, harm nothing', async t => {
  let flip = 0
  await using pair = await tunnelPair({
    onRequest: async request => {
      flip += 1
      if (flip % 3 === 0) return echo(request)
      await delay(flip % 5)
      if (flip % 2 === 0) request.refuse(503, 'PSTN_APP_UNREACHABLE')
      else withDuplex(({ accept }) => accept().write('late'))(request)
    },
  })
  const { stream: witness } = await pair.open()
  for (let round = 0; round < 20; round += 1) {
    const leaving = Array.from({ length: 100 }, async (_, index) => {
      const controller = new AbortController()
      setTimeout(() => controller.abort(), index % 4)
      const opened = await pair.open({}, controller.signal).catch(() => undefined)
      opened?.stream.resetAndDestroy()
    })
    await Promise.all(leaving)
  }
  witness.resetAndDestroy()
  let echoed = ''
  for (let attempt = 0; attempt < 3 && echoed === ''; attempt += 1) {
    const opened = await pair.open().catch(() => undefined)
    opened?.stream.end('still here')
    if (opened) echoed = await nextText(opened.stream)
  }
  t.match(echoed, /still here|late/)
})

t.test('who gives up while a stream is opened leaves nothing behind', async t => {
  const asked: TunnelRequest[] = []
  await using pair = await tunnelPair({ onRequest: request => asked.push(request) })
  const leaving = new AbortController()
  const opening = pair.open({}, leaving.signal)
  while (asked.length === 0) await delay(5)
  leaving.abort(new PosternError('PSTN_DRAINING', 'the test leaves'))
  await t.rejects(opening, { code: 'PSTN_DRAINING' })
  const stream = asked[0] && new DuplexOf(asked[0].accept())
  t.equal(stream && (await endOf(stream.resume())), 'cut off')
})

t.test('peers that are swept out are named and closed, and who comes later is judged anew', async t => {
  const server = acceptor()
  await using pair = await tunnelPair(server)
  for (const end of ['server', 'dialer'] as const) {
    const { stream } = await pair.open()
    const application = await server.next()
    const ends = [endOf(stream.resume()), endOf(application.resume())]
    t.same(
      pair[end].sweepPeers(() => true, 'PSTN_PEER_REVOKED'),
      [],
    )
    t.match(
      pair[end].sweepPeers(() => false, 'PSTN_PEER_REVOKED'),
      [{ identity: end === 'server' ? CLIENT_ID : SERVER_ID }],
    )
    t.same(await Promise.all(ends), ['cut off', 'cut off'], end)
  }
  t.ok((await pair.open()).peer.serial)
})

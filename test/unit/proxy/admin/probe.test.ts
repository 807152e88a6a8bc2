// Rewritten probes against real applications, through the status port as the kubelet asks it.
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type Server } from 'node:http'
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2'
import { createServer as createHttpsServer } from 'node:https'
import { createServer as createTcpServer, type Server as TcpServer } from 'node:net'
import t, { type Test } from 'tap'
import { decodeStatus, encodeRequest } from '../../../../proxy/admin/grpc-health.ts'
import { startStatusServer } from '../../../../proxy/admin/status-server.ts'
import type { ProbeTarget } from '../../../../shared/injection/settings.ts'
import { createRegistry } from '../../../../shared/metrics.ts'
import { testAuthority } from '../../../support/certificates.ts'

const PATH = '/app-health/Zm9vYmFy/app/livez'

/** What the kubelet gets for a probe of `target`. */
async function probe(t: Test, target: ProbeTarget, timeoutSeconds = 1) {
  const status = await startStatusServer({
    port: 0,
    metrics: createRegistry(),
    probes: [{ path: PATH, container: 'app', timeoutSeconds, target }],
    podIp: '127.0.0.1',
    readiness: () => ({ latched: true, reasons: [] }),
    quit: () => {},
  })
  try {
    const sent = request({
      host: '127.0.0.1',
      port: status.port,
      path: PATH,
      headers: { 'user-agent': 'kube-probe/1.36' },
      agent: false,
    })
    const [response] = (await once(sent.end(), 'response')) as [IncomingMessage]
    let body = ''
    for await (const chunk of response) body += chunk
    t.equal(body, '', 'nothing of the application’s answer passes but its status')
    return response.statusCode
  } finally {
    await status[Symbol.asyncDispose]()
  }
}

async function listen(t: Test, server: Server | TcpServer): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => {
    if ('closeAllConnections' in server) server.closeAllConnections()
    server.close()
  })
  const bound = server.address()
  return typeof bound === 'object' && bound !== null ? bound.port : 0
}

const http = (port: number, rest: Partial<Extract<ProbeTarget, { kind: 'http' }>> = {}): ProbeTarget => ({
  kind: 'http',
  port,
  path: '/health?deep=1',
  scheme: 'HTTP',
  headers: [],
  ...rest,
})

t.test('an HTTP probe asks as the kubelet does', async t => {
  const seen: IncomingMessage[] = []
  const port = await listen(
    t,
    createServer((request, response) => {
      seen.push(request)
      response.end('secret')
    }),
  )
  const headers = [
    { name: 'Host', value: 'web.example' },
    { name: 'X-Probe', value: 'one' },
    { name: 'X-Probe', value: 'two' },
    { name: 'Accept', value: '' },
  ]
  t.equal(await probe(t, http(port, { headers })), 200)
  t.match(seen[0], { method: 'GET', url: '/health?deep=1' })
  t.strictSame(seen[0]?.headers, {
    host: 'web.example',
    'x-probe': 'one, two',
    'user-agent': 'kube-probe/1.36',
    connection: 'close',
  })
  await probe(t, http(port))
  t.match(seen[1]?.headers, { host: `127.0.0.1:${port}`, accept: '*/*' })
})

for (const status of [204, 302, 399, 404, 500, 503]) {
  t.test(`the application’s ${status} is the kubelet’s`, async t => {
    const server = createServer((_, response) => response.writeHead(status, { location: '/elsewhere' }).end())
    t.equal(await probe(t, http(await listen(t, server))), status)
  })
}

t.test('an HTTPS probe does not verify the application’s certificate', async t => {
  const { key, chain } = await (await testAuthority('elsewhere.example')).issue({ dns: ['other.example'] })
  const server = createHttpsServer({ key, cert: chain }, (_, response) => response.end())
  t.equal(await probe(t, http(await listen(t, server), { scheme: 'HTTPS' })), 200)
})

t.test('an application that does not answer in time is 503', async t => {
  const started = performance.now()
  t.equal(await probe(t, http(await listen(t, createServer()))), 503)
  t.ok(performance.now() - started < 5_000)
})

t.test('an application that answers nonsense is 503', async t => {
  const server = createTcpServer(socket => socket.on('error', () => {}).end('nonsense\r\n\r\n'))
  t.equal(await probe(t, http(await listen(t, server))), 503)
})

t.test('a TCP probe is whether the application accepts', async t => {
  const server = createTcpServer(socket => socket.on('error', () => {}).resume())
  const port = await listen(t, server)
  t.equal(await probe(t, { kind: 'tcp', port }), 200)
  await once(server.close(), 'close')
  t.equal(await probe(t, { kind: 'tcp', port }), 503)
})

t.test('a probe of nobody is 503 whatever its kind', async t => {
  const server = createTcpServer()
  const port = await listen(t, server)
  await once(server.close(), 'close')
  t.equal(await probe(t, http(port)), 503)
  t.equal(await probe(t, { kind: 'grpc', port, service: '' }), 503)
})

/** A health service in which one service is known, with the given answer. */
function healthServer(answer: Buffer, grpcStatus = '0') {
  const asked: string[] = []
  const server = createHttp2Server()
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    asked.push(`${headers[':method']} ${headers[':path']} ${headers['content-type']}`)
    stream.on('data', chunk => asked.push(chunk.toString('hex')))
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': grpcStatus }))
    stream.end(answer)
  })
  return { server, asked }
}

const GRPC: [name: string, answer: number[], grpcStatus: string, status: number][] = [
  ['SERVING is 200', [0, 0, 0, 0, 2, 8, 1], '0', 200],
  ['NOT_SERVING is 503', [0, 0, 0, 0, 2, 8, 2], '0', 503],
  ['UNKNOWN, which is sent as nothing, is 503', [0, 0, 0, 0, 0], '0', 503],
  ['an error status is 503 whatever the message says', [0, 0, 0, 0, 2, 8, 1], '5', 503],
  ['an empty body is 503', [], '0', 503],
  ['a longer body than any answer is 503', Array(70_000).fill(0), '0', 503],
]
for (const [name, answer, grpcStatus, status] of GRPC) {
  t.test(`gRPC: ${name}`, async t => {
    const { server, asked } = healthServer(Buffer.from(answer), grpcStatus)
    const target: ProbeTarget = { kind: 'grpc', port: await listen(t, server), service: 'web' }
    t.equal(await probe(t, target), status)
    t.strictSame(asked.slice(0, 2), [
      'POST /grpc.health.v1.Health/Check application/grpc',
      '00000000050a03776562',
    ])
  })
}

t.test('gRPC: an application that speaks HTTP/1 is 503', async t => {
  const server = createServer((_, response) => response.end())
  t.equal(await probe(t, { kind: 'grpc', port: await listen(t, server), service: '' }), 503)
})

t.test('the health messages are what protobuf makes of them', async t => {
  t.equal(encodeRequest('').toString('hex'), '0000000000')
  t.equal(encodeRequest('x'.repeat(300)).subarray(0, 8).toString('hex'), '000000012f0aac02')
  t.equal(decodeStatus(Buffer.from('00000000020801', 'hex')), 1)
  t.equal(decodeStatus(Buffer.from('0000000000', 'hex')), 0)
  for (const broken of ['', '00', '0100000002 0801', '0000000003 0801', '0000000002 1001', '0000000001 08']) {
    t.equal(decodeStatus(Buffer.from(broken.replace(' ', ''), 'hex')), undefined, broken)
  }
})

for (const status of ['000', '042', '101']) {
  t.test(`an application that answers ${status} fails its probe and no more`, async t => {
    const app = createTcpServer(socket => {
      socket.on('error', () => {}).end(`HTTP/1.1 ${status} x\r\ncontent-length: 0\r\n\r\n`)
    })
    t.equal(await probe(t, http(await listen(t, app))), 503)
  })
}

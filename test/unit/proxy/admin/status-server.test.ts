import { once } from 'node:events'
import { request } from 'node:http'
import { createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { NEVER_READY } from '../../../../proxy/admin/readiness.ts'
import { QUIT_HEADER, type StatusOptions, startStatusServer } from '../../../../proxy/admin/status-server.ts'
import { createRegistry } from '../../../../shared/metrics.ts'
import { greedyCaller } from '../../../support/greedy-caller.ts'

type Answer = { readonly status: number | undefined; readonly body: string }

/** A status server and how to ask it; ends with the test. */
async function start(t: Test, options: Partial<StatusOptions> = {}) {
  const server = await startStatusServer({
    port: 0,
    metrics: createRegistry(),
    probes: [],
    podIp: '127.0.0.1',
    readiness: () => ({ latched: true, reasons: [] }),
    quit: () => t.fail('nobody asked to quit'),
    ...options,
  })
  t.teardown(() => server[Symbol.asyncDispose]())
  return async (method: string, path: string, headers = {}, host = '127.0.0.1'): Promise<Answer> => {
    const sent = request({ host, port: server.port, method, path, headers, agent: false })
    const [response] = await once(sent.end(), 'response')
    let body = ''
    for await (const chunk of response) body += chunk
    return { status: response.statusCode, body }
  }
}

t.test('metrics are in the Prometheus text format', async t => {
  const metrics = createRegistry()
  metrics.counter('postern_test_total', 'A test.').inc({}, 3)
  const ask = await start(t, { metrics })
  t.match(await ask('GET', '/metrics'), { status: 200, body: /^postern_test_total 3$/m })
})

t.test('health is that the process answers', async t => {
  const ask = await start(t, { readiness: () => NEVER_READY })
  t.match(await ask('GET', '/healthz'), { status: 200 })
})

t.test('readiness is live and says why not', async t => {
  let reasons = ['no certificate yet: PSTN_CSR_DENIED', 'no policy yet']
  const ask = await start(t, { readiness: () => ({ latched: false, reasons }) })
  const refusal = { status: 503, body: 'not ready: no certificate yet: PSTN_CSR_DENIED; no policy yet\n' }
  t.strictSame(await ask('GET', '/readyz'), refusal)
  reasons = []
  t.strictSame(await ask('GET', '/readyz'), { status: 200, body: 'ready\n' })
})

t.test('everything else is 404 without a word', async t => {
  const ask = await start(t)
  const requests = [
    ['GET', '/'],
    ['GET', '/metrics/'],
    ['GET', '/metrics?x'],
    ['GET', '//metrics'],
    ['GET', '/quit'],
    ['GET', '/app-health/guess/app/livez'],
    ['POST', '/metrics'],
    ['PUT', '/quit'],
    ['DELETE', '/healthz'],
  ] as const
  for (const [method, path] of requests) {
    t.strictSame(await ask(method, path), { status: 404, body: '' }, `${method} ${path}`)
  }
})

t.test('quitting needs the header and comes from this host alone', async t => {
  let quits = 0
  const ask = await start(t, { quit: () => quits++ })
  t.match(await ask('POST', '/quit'), { status: 400, body: /postern-quit: yes/ })
  t.match(await ask('POST', '/quit', { [QUIT_HEADER]: 'no' }), { status: 400 })
  t.equal(quits, 0)
  t.match(await ask('POST', '/quit', { [QUIT_HEADER]: 'yes' }), { status: 200 })
  t.match(await ask('POST', '/quit', { [QUIT_HEADER]: 'yes' }, '::1'), { status: 200 })
  t.equal(quits, 2)
})

t.test(
  'one caller cannot take the connections of the others, and idle ones end',
  { timeout: 15_000 },
  async t => {
    const limits: string[] = []
    const server = await startStatusServer({
      port: 0,
      metrics: createRegistry(),
      probes: [],
      podIp: '127.0.0.1',
      readiness: () => NEVER_READY,
      quit: () => {},
      onLimit: limit => limits.push(limit),
    })
    t.teardown(() => server[Symbol.asyncDispose]())
    const greedy = await greedyCaller(t, server.port, 300)
    const asked = request({
      host: '127.0.0.1',
      localAddress: '127.0.0.2',
      port: server.port,
      path: '/healthz',
      agent: false,
    })
    const [response] = await once(asked.end(), 'response')
    response.resume()
    t.equal(response.statusCode, 200)
    t.ok((await greedy.allClosed()) < 8_000)
    t.same(limits, Array(300 - 32).fill('status_connections'), 'each is counted')
  },
)

t.test('beyond so many probes at once each is 503 at once, and counted', async t => {
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const bound = silent.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  const path = '/app-health/guess/app/livez'
  const target = { kind: 'http', port, path: '/', scheme: 'HTTP', headers: [] } as const
  const limits: string[] = []
  const ask = await start(t, {
    probes: [{ path, container: 'app', timeoutSeconds: 2, target }],
    onLimit: limit => limits.push(limit),
  })
  const sockets = new Set<Socket>()
  silent.on('connection', socket => sockets.add(socket.on('error', () => {})))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  // An address has no more than 32 connections.
  const waiting = Array.from({ length: 32 }, () => ask('GET', path))
  while (sockets.size < 32) await once(silent, 'connection')
  t.match(await ask('GET', path, {}, '::1'), { status: 503 })
  t.same(limits, ['status_probes'])
  for (const socket of sockets)
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
  for (const answer of await Promise.all(waiting)) t.match(answer, { status: 200 })
})

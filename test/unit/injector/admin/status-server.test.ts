import { once } from 'node:events'
import { request } from 'node:http'
import t from 'tap'
import { serveStatus } from '../../../../injector/admin/status-server.ts'
import { live } from '../../../../shared/live.ts'
import { createRegistry } from '../../../../shared/metrics.ts'
import { greedyCaller } from '../../../support/greedy-caller.ts'

t.test('health, readiness with its reasons, and metrics', async t => {
  const registry = createRegistry()
  registry.counter('postern_things_total', 'Things.').inc({})
  const missing = live<readonly string[]>(['the CA', 'patience'])
  await using server = await serveStatus({ host: '127.0.0.1', port: 0, registry, missing })
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${server.port}${path}`, { method })
    return [response.status, await response.text()] as const
  }
  t.same(await get('/healthz'), [200, 'ok\n'])
  t.same(await get('/readyz'), [503, 'waiting for the CA, patience\n'])
  missing.set([])
  t.same(await get('/readyz?verbose'), [200, 'ok\n'])
  t.match(await get('/metrics'), [200, /^postern_things_total 1$/m])
  t.same(await get('/readyz', 'HEAD'), [200, ''])
  t.equal((await get('/', 'GET'))[0], 404)
  t.equal((await get('/healthz', 'POST'))[0], 405)
})

t.test('one caller cannot keep the kubelet out, and idle connections end', { timeout: 15_000 }, async t => {
  const missing = live<readonly string[]>([])
  await using server = await serveStatus({ host: '127.0.0.1', port: 0, registry: createRegistry(), missing })
  const greedy = await greedyCaller(t, server.port, 300)
  const options = { host: '127.0.0.1', localAddress: '127.0.0.2', port: server.port, agent: false }
  const [response] = await once(request({ ...options, path: '/healthz' }).end(), 'response')
  response.resume()
  t.equal(response.statusCode, 200)
  t.ok((await greedy.allClosed()) < 8_000)
})

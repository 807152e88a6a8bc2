import { once } from 'node:events'
import { request } from 'node:http'
import { networkInterfaces } from 'node:os'
import t, { type Test } from 'tap'
import { serveAdmin } from '../../../../injector/admin/server.ts'
import { createLogger } from '../../../../shared/log.ts'

const hasIpv6 = Object.values(networkInterfaces()).some(list =>
  list?.some(({ address }) => address === '::1'),
)

async function start(t: Test) {
  const server = await serveAdmin({
    port: 0,
    log: createLogger('test', 'error'),
    answers: { '/sidecars': async () => ({ reports: [] }) },
  })
  t.teardown(() => server[Symbol.asyncDispose]())
  return async (path: string, { host = '127.0.0.1', method = 'GET', name = 'localhost' } = {}) => {
    const call = request({
      host,
      port: server.port,
      path,
      method,
      headers: { host: name },
      agent: false,
    }).end()
    const [response] = await once(call, 'response')
    return [response.statusCode, (await response.toArray()).join('')]
  }
}

t.test('a path is answered as JSON', async t => {
  const ask = await start(t)
  t.same(await ask('/sidecars'), [200, '{"reports":[]}\n'])
  t.same(await ask('/sidecars?x=1', { name: '127.0.0.1:15016' }), [200, '{"reports":[]}\n'])
})

t.test('on both loopback addresses', { skip: !hasIpv6 && 'this machine has no ::1' }, async t => {
  const ask = await start(t)
  t.same(await ask('/sidecars', { host: '::1', name: '[::1]:15016' }), [200, '{"reports":[]}\n'])
})

t.test('on no other address', async t => {
  const ask = await start(t)
  await t.rejects(ask('/sidecars', { host: '127.0.0.2' }), { code: 'ECONNREFUSED' })
})

t.test('a page under another name is refused, whatever it resolves to', async t => {
  const ask = await start(t)
  for (const name of [
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example:15016',
    '10.0.0.1',
    '[::2]',
  ]) {
    t.equal((await ask('/sidecars', { name }))[0], 421, name)
  }
})

t.test('only what there is, and only read', async t => {
  const ask = await start(t)
  for (const path of ['/', '/sidecars/', '/toString', '/__proto__']) t.equal((await ask(path))[0], 404, path)
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
    t.equal((await ask('/sidecars', { method }))[0], 405, method)
})

t.test('an answer that fails is a 500 without details', async t => {
  await using server = await serveAdmin({
    port: 0,
    log: createLogger('test', 'error'),
    answers: { '/sidecars': () => Promise.reject(new Error('a secret')) },
  })
  const response = await fetch(`http://127.0.0.1:${server.port}/sidecars`)
  t.same([response.status, await response.text()], [500, 'it failed; the log says why\n'])
})

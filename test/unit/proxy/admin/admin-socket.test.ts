import { once } from 'node:events'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type AdminOptions, startAdminSocket } from '../../../../proxy/admin/admin-socket.ts'
import { createLogger } from '../../../../shared/log.ts'

async function start(t: Test, options: Partial<AdminOptions> = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'postern-admin-'))
  t.teardown(() => rm(directory, { recursive: true }))
  const path = join(directory, 'admin.sock')
  const log = createLogger('proxy', 'info')
  // What a killed process leaves is in the way of a bind.
  await writeFile(path, '')
  const server = await startAdminSocket({
    path,
    log,
    config: () => ({ outbound: 'auto' }),
    certificates: () => [{ serial: '01' }],
    drain: () => t.fail('nobody asked to drain'),
    ...options,
  })
  t.teardown(() => server[Symbol.asyncDispose]())
  const ask = async (method: string, url: string, body = '') => {
    const sent = request({
      socketPath: path,
      method,
      path: url,
      headers: { 'content-length': body.length },
      agent: false,
    })
    const [response] = await once(sent.end(body), 'response')
    let answer = ''
    for await (const chunk of response) answer += chunk
    return { status: response.statusCode, body: JSON.parse(answer) }
  }
  return { path, log, ask }
}

t.test('only its owner may connect', async t => {
  const before = process.umask()
  const { path } = await start(t)
  const { mode } = await stat(path)
  t.equal(mode & 0o777, 0o600)
  t.equal(process.umask(), before, 'other files keep their modes')
})

t.test('it shows the configuration and the certificates', async t => {
  const { ask } = await start(t)
  t.strictSame(await ask('GET', '/config'), { status: 200, body: { outbound: 'auto' } })
  t.strictSame(await ask('GET', '/certificates'), { status: 200, body: [{ serial: '01' }] })
})

t.test('the log level changes at once, and only to one that exists', async t => {
  const { ask, log } = await start(t)
  t.strictSame(await ask('GET', '/log-level'), { status: 200, body: { level: 'info' } })
  t.strictSame(await ask('PUT', '/log-level', 'debug\n'), { status: 200, body: { level: 'debug' } })
  t.equal(log.level, 'debug')
  t.match(await ask('PUT', '/log-level', 'loud'), { status: 400 })
  t.match(await ask('PUT', '/log-level', 'x'.repeat(1000)), { status: 413 })
  t.equal(log.level, 'debug')
})

t.test('draining is asked for by POST alone', async t => {
  let drains = 0
  const { ask } = await start(t, { drain: () => drains++ })
  t.match(await ask('GET', '/drain'), { status: 404 })
  t.equal(drains, 0)
  t.match(await ask('POST', '/drain'), { status: 202 })
  t.equal(drains, 1)
})

t.test('an unknown endpoint lists those that exist', async t => {
  const { ask } = await start(t)
  t.match(await ask('GET', '/'), { status: 404, body: { endpoints: ['GET /config'] } })
})

t.test('a failing dump is 500, not the end of the sidecar', async t => {
  const { ask } = await start(t, {
    config: () => {
      throw new Error('no state yet')
    },
  })
  t.match(await ask('GET', '/config'), { status: 500, body: { error: /no state yet/ } })
  t.match(await ask('GET', '/log-level'), { status: 200 })
})

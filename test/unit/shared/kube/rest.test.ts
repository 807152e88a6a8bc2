import { spawn } from 'node:child_process'
import { constants } from 'node:crypto'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { connectKube } from '../../../../shared/kube/rest.ts'
import { testAuthority } from '../../../support/certificates.ts'

const former = await testAuthority('former')
const next = await testAuthority('next')
const serving = async (authority: typeof former) => {
  const { key, chain } = await authority.issue({ dns: ['localhost'] })
  // Without tickets: a resumed session shows no certificate.
  return { key, cert: chain, secureOptions: constants.SSL_OP_NO_TICKET }
}

t.test('the roots of the API server are read anew, as the kubelet rewrites them', async t => {
  const file = join(t.testdir({ 'ca.crt': former.root }), 'ca.crt')
  const server = createServer(await serving(former), (request, response) =>
    response.end(JSON.stringify({ authorization: request.headers.authorization })),
  )
  await once(server.listen(0), 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  using kube = connectKube({
    server: `https://localhost:${(server.address() as AddressInfo).port}`,
    caFile: file,
    token: 'x',
  })
  t.same(await kube.get('/'), { authorization: 'Bearer x' })

  server.setSecureContext(await serving(next))
  server.closeAllConnections()
  // Until the client has seen it: a kept connection that just closed would be tried first.
  await delay(50)
  await t.rejects(
    kube.get('/'),
    { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' },
    'a root that is not in the file',
  )
  await writeFile(file, former.root + next.root)
  t.same(await kube.get('/'), { authorization: 'Bearer x' })
  await writeFile(file, former.root)
  await t.rejects(
    kube.get('/'),
    { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' },
    'a root that was removed, although a connection to it is open',
  )
  await rm(file)
  await t.rejects(kube.get('/'), { code: 'ENOENT' })
})

/** A listener that never accepts, with its queue full: further connections get no answer at all. */
async function silentServer(t: Test): Promise<number> {
  const script = `require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, function () {
    console.log(this.address().port)
    process.kill(process.pid, 'SIGSTOP')
  })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = await once(child.stdout, 'data')
  const port = Number(line)
  for (let filled = false; !filled; ) {
    const socket = connect({ host: '127.0.0.1', port }).on('error', () => {})
    t.teardown(() => socket.destroy())
    filled = await Promise.race([once(socket, 'connect').then(() => false), delay(300, true)])
  }
  return port
}

t.test('an API server that does not even accept is given up in time', { timeout: 10_000 }, async t => {
  const server = `https://127.0.0.1:${await silentServer(t)}`
  using kube = connectKube({ server, ca: former.root, timeoutMs: 500 })
  const began = Date.now()
  await t.rejects(kube.get('/'), { message: `no answer from ${server} within 500 ms` })
  t.ok(Date.now() - began < 2_000)
})

t.test('a watch may be silent for longer; the call after it on the same connection may not', async t => {
  const ports: (number | undefined)[] = []
  const server = createServer(await serving(former), (request, response) => {
    ports.push(request.socket.remotePort)
    if (request.url !== '/watch') return
    response.flushHeaders()
    setTimeout(() => response.end('event'), 600)
  })
  await once(server.listen(0), 'listening')
  t.teardown(() => server.close())
  const endpoint = `https://localhost:${(server.address() as AddressInfo).port}`
  using kube = connectKube({ server: endpoint, ca: former.root, timeoutMs: 200 })
  t.equal(await text(await kube.stream('/watch', new AbortController().signal)), 'event')
  await t.rejects(kube.get('/'), { message: /within 200 ms/ })
  t.equal(ports[0], ports[1])
})

import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import t, { type Test } from 'tap'
import { callHook } from '../../../../proxy/cert-files/hook.ts'

const NEVER = new AbortController().signal

async function listening(t: Test, answer: RequestListener, host = '127.0.0.1') {
  const server = createServer(answer)
  await once(server.listen(0, host), 'listening')
  t.teardown(() => server.close())
  t.teardown(() => server.closeAllConnections())
  const address = server.address()
  return { server, port: typeof address === 'object' ? (address?.port ?? 0) : 0 }
}

t.test('a hook is asked once, by POST, without a body, at the path with its query', async t => {
  const asked: object[] = []
  const { port } = await listening(t, (request, response) => {
    const { method, url, headers } = request
    asked.push({ method, url, headers })
    response.writeHead(204).end()
  })
  await callHook({ port, path: '/-/reload?now=1' }, NEVER)
  t.match(asked, [
    {
      method: 'POST',
      url: '/-/reload?now=1',
      headers: { host: `127.0.0.1:${port}`, 'content-length': '0', 'user-agent': 'postern' },
    },
  ])
  t.equal(asked.length, 1)
})

t.test('who listens on IPv6 alone is asked there', async t => {
  const { port } = await listening(t, (_, response) => response.end(), '::1')
  await callHook({ port, path: '/' }, NEVER)
})

for (const status of [300, 404, 500, 503])
  t.test(`an answer of ${status} is none`, async t => {
    const { port } = await listening(t, (_, response) => response.writeHead(status).end())
    const refused = { code: 'PSTN_CERT_HOOK_FAILED', message: `it answered with ${status}` }
    await t.rejects(callHook({ port, path: '/' }, NEVER), refused)
  })

t.test('a redirect is not followed, wherever it leads', async t => {
  let reached = 0
  const elsewhere = await listening(t, (_, response) => {
    reached += 1
    response.end()
  })
  const { port } = await listening(t, (_, response) => {
    response.writeHead(307, { location: `http://127.0.0.1:${elsewhere.port}/` }).end()
  })
  await t.rejects(callHook({ port, path: '/' }, NEVER), { message: 'it answered with 307' })
  t.equal(reached, 0)
  await callHook({ port: elsewhere.port, path: '/' }, NEVER)
  t.equal(reached, 1, 'it could have been reached')
})

t.test('nobody who listens is said as what it is', async t => {
  const { server, port } = await listening(t, (_, response) => response.end())
  server.close()
  await once(server, 'close')
  await t.rejects(callHook({ port, path: '/' }, NEVER), {
    code: 'PSTN_CERT_HOOK_FAILED',
    message: /ECONNREFUSED/,
  })
})

t.test('who does not answer is not waited for', async t => {
  const { port } = await listening(t, () => {})
  await t.rejects(callHook({ port, path: '/' }, NEVER, 50), { message: 'no answer within 50 ms' })
})

t.test('what is no HTTP is an error', async t => {
  const server = createTcpServer(socket => socket.end('hello\n'))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0
  await t.rejects(callHook({ port, path: '/' }, NEVER), { code: 'PSTN_CERT_HOOK_FAILED' })
})

t.test('a body without end is not read', async t => {
  const { port } = await listening(t, (_, response) => {
    const pour = () => {
      while (response.write('x'.repeat(10_000)));
    }
    response.on('drain', pour)
    pour()
  })
  await callHook({ port, path: '/' }, NEVER)
})

t.test('an end of the sidecar is its own reason', async t => {
  const { port } = await listening(t, () => {})
  const ending = new AbortController()
  const called = callHook({ port, path: '/' }, ending.signal)
  setImmediate(() => ending.abort(new Error('over')))
  await t.rejects(called, { message: 'over' })
})

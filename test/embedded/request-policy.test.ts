// Policies about requests, on real connections through both sidecars: what they allow, what they refuse, and what a
// change does to what lives.
import { once } from 'node:events'
import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import t from 'tap'
import type { AuthorizationPolicy, OperationMatch } from '../../shared/policy/model.ts'
import type { Protocol } from '../../shared/protocol.ts'
import { compiled, type DataPath, dataPath } from '../support/data-path.ts'
import { endOf, nextText } from '../support/tunnel-pair.ts'

const policy = (action: 'ALLOW' | 'DENY', operation: OperationMatch): AuthorizationPolicy => ({
  kind: 'AuthorizationPolicy',
  name: 'shop/requests',
  action,
  rules: [{ to: [operation] }],
  features: ['l4', 'http'],
})
const READING = policy('ALLOW', { methods: ['GET'], paths: ['/orders', '/orders/*'] })
const NO_DELETE = policy('DENY', { methods: ['DELETE'] })

/** `/held` is answered by its head and a first byte, and then nothing. */
const application = (): Server =>
  createServer((asked: IncomingMessage, answer: ServerResponse) => {
    answer.write('x')
    if (!asked.url?.endsWith('/held')) answer.end()
  })

const declare = (path: DataPath, server: { address(): unknown }, protocol?: Protocol) => {
  const { port } = Object(server.address())
  path.protocols.set(protocol ? { [port]: protocol } : {})
}

/** One connection that is kept, as an application's client has it. */
function client(path: DataPath) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  agent.createConnection = () => path.dial()
  const ask = async (method: string, target: string): Promise<IncomingMessage> => {
    const asked = request({ agent, method, path: target, headers: { host: 'orders.shop:8080' } }).end()
    const [answer] = await once(asked, 'response')
    // The answer has it too.
    asked.on('error', () => {})
    return answer
  }
  const status = async (method: string, target: string) => {
    const answer = await ask(method, target)
    answer.resume()
    await once(answer, 'end')
    return answer.statusCode
  }
  return { ask, status, [Symbol.dispose]: () => agent.destroy() }
}

t.test('each request is decided on, and what is refused leaves the connection to others', async t => {
  const server = application()
  await using path = await dataPath(server)
  declare(path, server, 'http1')
  path.policy.set(compiled([READING]))
  using caller = client(path)
  const connected = once(server, 'connection')
  t.equal(await caller.status('GET', '/orders/7?all'), 200)
  t.equal(await caller.status('DELETE', '/orders/7'), 403)
  t.equal(await caller.status('GET', '/orders/../admin'), 403)
  t.equal(await caller.status('GET', '/%6Frders'), 200)
  await connected
  const count = await new Promise<number>((resolve, reject) =>
    server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
  )
  t.equal(count, 1)
})

t.test('a caller of whom no request could pass holds no connection of the application', async t => {
  const server = createTcpServer(socket => socket.pipe(socket))
  let connections = 0
  server.on('connection', () => {
    connections += 1
  })
  await using path = await dataPath(server)
  const strangers: AuthorizationPolicy = {
    ...READING,
    rules: [{ from: [{ namespaces: ['elsewhere'] }], to: [{ methods: ['GET'] }] }],
  }
  for (const protocol of ['http1', 'http2'] as const) {
    declare(path, server, protocol)
    path.policy.set(compiled([strangers]))
    for (const dial of [path.dial, path.dialPlain]) {
      await endOf(dial())
      t.match(await path.server.next('decision'), { code: 'PSTN_POLICY_DENIED', policy: 'shop/requests' })
    }
    t.match(await path.client.next('decision'), { code: 'PSTN_POLICY_DENIED' }, 'and its own log says why')
    t.equal(connections, 0, protocol)
  }
})

t.test('a caller of whom no request could pass any more loses its connection', async t => {
  const server = application()
  await using path = await dataPath(server)
  declare(path, server, 'http1')
  using caller = client(path)
  t.equal(await caller.status('GET', '/orders'), 200)
  path.policy.set(compiled([{ ...READING, rules: [{ from: [{ namespaces: ['elsewhere'] }] }] }]))
  t.match(await path.server.next('connection'), { outcome: 'closed', code: 'PSTN_POLICY_DENIED' })
})

t.test('a policy that comes to forbid a request ends it while it lives', async t => {
  const server = application()
  await using path = await dataPath(server)
  declare(path, server, 'http1')
  using caller = client(path)
  const answer = await caller.ask('DELETE', '/held')
  t.equal(answer.statusCode, 200)
  const ended = once(answer.resume(), 'error')
  path.policy.set(compiled([READING]))
  t.match(await ended, [{ code: 'ECONNRESET' }])
  path.policy.set(compiled([NO_DELETE]))
  t.equal(await caller.status('GET', '/anything'), 200, 'the next comes on a new connection')
  t.equal(await caller.status('DELETE', '/anything'), 403)
})

t.test('on a port that nobody declared, a policy about requests refuses the connection', async t => {
  const echo = createTcpServer(socket => socket.pipe(socket))
  await using path = await dataPath(echo)
  for (const about of [READING, NO_DELETE]) {
    path.policy.set(compiled([about]))
    const socket = path.dial()
    await endOf(socket)
    t.match(await path.server.next('decision'), { code: 'PSTN_POLICY_DENIED', policy: 'shop/requests' })
  }
})

t.test('a live connection of opaque bytes is closed when its port is declared HTTP', async t => {
  const server = createTcpServer(socket => socket.pipe(socket))
  await using path = await dataPath(server)
  const socket = path.dial()
  socket.write('DELETE / HTTP/1.1\r\n')
  t.equal(await nextText(socket), 'DELETE / HTTP/1.1\r\n')
  declare(path, server)
  path.policy.set(compiled([]))
  socket.write('x')
  t.equal(await nextText(socket), 'x', 'control: no other change does')
  declare(path, server, 'http1')
  await endOf(socket)
  t.match(await path.server.next('connection'), { outcome: 'closed', code: 'PSTN_PROTOCOL_CHANGED' })
  t.match(
    path.server.lines.find(({ msg }) => msg === 'decision'),
    { code: 'PSTN_PROTOCOL_CHANGED' },
  )
})

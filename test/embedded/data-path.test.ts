import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { createAnchorage } from '../../proxy/identify/anchor.ts'
import type { AuthorizationPolicy } from '../../shared/policy/model.ts'
import { testAuthority } from '../support/certificates.ts'
import { applicationServer, compiled, type DataPath, dataPath } from '../support/data-path.ts'
import { CLIENT_ID, endOf, nextText, readAll, SERVER_ID, TRUST_DOMAIN } from '../support/tunnel-pair.ts'

const MIB = 1024 * 1024

const echo = () => applicationServer(socket => socket.pipe(socket))

const DENY_CLIENT: AuthorizationPolicy = {
  kind: 'AuthorizationPolicy',
  name: 'shop/no-client',
  action: 'DENY',
  rules: [{ from: [{ serviceAccounts: ['shop/client'] }] }],
  features: [],
}

/** How a socket ends whose peer resets it. */
async function wasReset(socket: Socket): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  socket.once('error', error => resolve('code' in error && error.code === 'ECONNRESET'))
  socket.once('end', () => resolve(false))
  socket.resume()
  return promise
}

t.test('a server-first application is heard before its client says a byte', async t => {
  await using path = await dataPath(applicationServer(socket => socket.write('220 ready\r\n')))
  const socket = path.dial()
  t.equal(await nextText(socket), '220 ready\r\n')
  socket.destroy()
})

t.test('each direction ends on its own, and both logs say who talked to whom', async t => {
  await using path = await dataPath(
    applicationServer(async socket => {
      const question = await readAll(socket)
      await delay(30)
      socket.end(`answer to ${question}`)
    }),
  )
  const socket = path.dial()
  socket.end('question')
  t.equal(String(await readAll(socket)), 'answer to question')

  t.match(await path.server.next('connection'), {
    direction: 'inbound',
    via: 'tunnel',
    source: { identity: CLIENT_ID, address: '127.0.0.1', serial: /^[0-9a-f]+$/ },
    destination: { address: '127.0.0.1' },
    bytesIn: 8,
    bytesOut: 18,
    outcome: 'ok',
  })
  t.match(await path.client.next('connection'), {
    direction: 'outbound',
    via: 'tunnel',
    destination: { address: '127.0.0.1', identity: SERVER_ID, pod: 'shop/server-0' },
    bytesIn: 18,
    bytesOut: 8,
    outcome: 'ok',
  })
})

t.test('a reset travels from either application to the other', async t => {
  const accepted: Socket[] = []
  await using path = await dataPath(applicationServer(socket => accepted.push(socket)))
  for (const who of ['client', 'server'] as const) {
    const socket = path.dial()
    socket.write('x')
    while (accepted.length === 0) await delay(5)
    const application = accepted.pop()
    t.ok(application)
    if (!application) return
    await nextText(application)
    const [resetter, other] = who === 'client' ? [socket, application] : [application, socket]
    const reset = wasReset(other)
    resetter.resetAndDestroy()
    t.equal(await reset, true, `reset by the ${who}`)
    t.match(await path.server.next('connection'), { outcome: 'reset', bytesIn: 1 })
  }
})

t.test('an application that does not listen is a reset, with its code in both logs', async t => {
  await using path = await dataPath(echo())
  path.destination.outbound = { address: '127.0.0.1', port: 1 }
  t.equal(await wasReset(path.dial()), true)
  t.match(await path.server.next('decision'), { code: 'PSTN_APP_UNREACHABLE', direction: 'inbound' })
  t.match(await path.client.next('decision'), { code: 'PSTN_APP_UNREACHABLE', direction: 'outbound' })
})

t.test('an address that nothing live has is refused, not guessed', async t => {
  await using path = await dataPath(echo())
  path.destination.outbound = { address: '127.3.3.3', port: 80 }
  t.equal(await wasReset(path.dial()), true)
  t.match(await path.client.next('connection'), { outcome: 'refused', code: 'PSTN_ADDRESS_UNKNOWN' })
})

t.test('a dial of our own listener is refused as a loop', async t => {
  await using path = await dataPath(echo())
  path.destination.outbound = { address: '127.0.0.1', port: 15001 }
  t.equal(await wasReset(path.dial()), true)
  t.match(await path.client.next('connection'), { outcome: 'refused', code: 'PSTN_LOOP' })
})

t.test('a CONNECT to what is not this pod’s application is refused, and nothing is dialled', async t => {
  await using path = await dataPath(echo())
  const refusals = [
    ['127.0.0.9:80', 'PSTN_DESTINATION_NOT_LOCAL'],
    ['[::1]:80', 'PSTN_DESTINATION_NOT_LOCAL'],
    ['127.0.0.1:15001', 'PSTN_OWN_PORT'],
    ['127.0.0.1:15008', 'PSTN_OWN_PORT'],
    ['localhost:80', 'PSTN_TUNNEL_MALFORMED'],
    ['127.0.0.1', 'PSTN_TUNNEL_MALFORMED'],
    ['127.0.0.1:080', 'PSTN_TUNNEL_MALFORMED'],
    ['127.1:80', 'PSTN_TUNNEL_MALFORMED'],
  ] as const
  for (const [authority, code] of refusals) {
    await t.rejects(path.pair.open({ authority }), { code }, authority)
    t.match(await path.server.next('connection'), { outcome: 'refused', code, bytesIn: 0 })
  }
})

t.test('another HBONE client learns the same by the status', async t => {
  await using path = await dataPath(echo())
  const { port } = path.pair.server
  const tls = { ...path.pair.clientTls.get()?.context, ALPNProtocols: ['h2'], rejectUnauthorized: false }
  const session = connectHttp2(`https://127.0.0.1:${port}`, {
    createConnection: () => connectTls({ ...tls, host: '127.0.0.1', port }),
  })
  const ask = async (authority: string) => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority })
    const [headers] = await once(stream, 'response')
    stream.resume()
    return [headers[':status'], headers['postern-code']]
  }
  t.same(await ask('127.0.0.9:80'), [400, 'PSTN_DESTINATION_NOT_LOCAL'])
  t.same(await ask('127.0.0.1:1'), [503, 'PSTN_APP_UNREACHABLE'])
  path.policy.set(compiled([DENY_CLIENT]))
  t.same(await ask('127.0.0.1:1'), [403, 'PSTN_POLICY_DENIED'])
  session.destroy()
})

t.test('a forbidden caller is refused, and the policy is named', async t => {
  await using path = await dataPath(echo())
  path.policy.set(compiled([DENY_CLIENT]))
  t.equal(await wasReset(path.dial()), true)
  t.match(await path.server.next('decision'), {
    code: 'PSTN_POLICY_DENIED',
    policy: 'shop/no-client',
    rule: 0,
    source: { identity: CLIENT_ID },
  })
  t.match(await path.client.next('connection'), { outcome: 'refused', code: 'PSTN_POLICY_DENIED' })
})

t.test('before the first policy nobody is let in', async t => {
  await using path = await dataPath(echo())
  path.policy.set(undefined)
  t.equal(await wasReset(path.dial()), true)
  t.match(await path.server.next('connection'), { outcome: 'refused', code: 'PSTN_NOT_READY' })
})

t.test('a policy that comes to forbid a live connection ends it, and no other change does', async t => {
  await using path = await dataPath(echo())
  const socket = path.dial()
  socket.write('x')
  t.equal(await nextText(socket), 'x')
  const reset = wasReset(socket)
  path.policy.set(compiled([{ ...DENY_CLIENT, rules: [{ from: [{ serviceAccounts: ['shop/other'] }] }] }]))
  await delay(20)
  t.notOk(socket.destroyed)
  const started = performance.now()
  path.policy.set(compiled([DENY_CLIENT]))
  t.equal(await reset, true)
  t.comment(`closed after ${Math.round(performance.now() - started)} ms`)
  t.match(await path.server.next('decision'), { code: 'PSTN_POLICY_DENIED', policy: 'shop/no-client' })
  t.match(await path.server.next('connection'), {
    outcome: 'closed',
    code: 'PSTN_POLICY_DENIED',
    policy: 'shop/no-client',
    bytesIn: 1,
  })
})

t.test('plaintext passes and is counted in permissive mode, and is refused at once in strict', async t => {
  await using path = await dataPath(echo())
  const live = path.dialPlain()
  live.write('x')
  t.equal(await nextText(live), 'x')
  t.match(path.server.metrics.render(), /postern_plaintext_accepted_total\{port="\d+"\} 1/)

  const reset = wasReset(live)
  path.policy.set(compiled([], true))
  t.equal(await reset, true, 'a live one is ended by the change')
  t.match(await path.server.next('connection'), { via: 'plaintext', outcome: 'closed' })

  const refused = path.dialPlain()
  t.equal(await wasReset(refused), true)
  t.match(await path.server.next('connection'), { outcome: 'refused', code: 'PSTN_PLAINTEXT_REFUSED' })

  const tunnelled = path.dial()
  tunnelled.write('x')
  t.equal(await nextText(tunnelled), 'x', 'the tunnel is not plaintext')
  tunnelled.destroy()
})

t.test('captured plaintext is never relayed to another host or to our own ports', async t => {
  await using path = await dataPath(echo())
  const refusals = [
    [{ address: '10.0.0.1', port: 80 }, 'PSTN_DESTINATION_NOT_LOCAL'],
    [{ address: '127.0.0.1', port: 15001 }, 'PSTN_OWN_PORT'],
  ] as const
  for (const [destination, code] of refusals) {
    path.destination.inbound = destination
    t.equal(await wasReset(path.dialPlain()), true)
    t.match(await path.server.next('connection'), { outcome: 'refused', code })
  }
})

t.test('the start-up probe is answered by the sidecar itself', async t => {
  await using path = await dataPath(echo())
  path.destination.inbound = { address: '127.0.0.1', port: 15021 }
  const socket = path.dialPlain()
  socket.write('GET / HTTP/1.1\r\n\r\n')
  t.match(await nextText(socket), /200 OK/)
})

t.test('100 MiB each way arrive whole through both sidecars', async t => {
  await using path = await dataPath(echo())
  const socket = path.dial()
  const [sent, received] = [createHash('sha256'), createHash('sha256')]
  socket.on('data', chunk => received.update(chunk))
  const ended = endOf(socket)
  const started = performance.now()
  for (let count = 0; count < 100; count += 1) {
    const block = randomBytes(MIB)
    sent.update(block)
    if (!socket.write(block)) await once(socket, 'drain')
  }
  socket.end()
  t.equal(await ended, 'ended')
  t.equal(received.digest('hex'), sent.digest('hex'))
  t.comment(`${Math.round(200_000 / (performance.now() - started))} MiB/s`)
})

t.test('certificates rotate under traffic on new and kept connections without a failure', async t => {
  await using path = await dataPath(echo())
  const kept = path.dial()
  let exchanges = 0
  for (let generation = 2; generation <= 4; generation += 1) {
    const renewed = await Promise.all([
      path.pair.issue(CLIENT_ID, generation),
      path.pair.issue(SERVER_ID, generation),
    ])
    const users = Array.from({ length: 8 }, async (_, user) => {
      for (let count = 0; count < 25; count += 1) {
        if (user === 0 && count === 10) rotate(path, renewed)
        const socket = path.dial()
        socket.end('x')
        t.equal(String(await readAll(socket)), 'x')
        exchanges += 1
      }
    })
    await Promise.all(users)
    kept.write('k')
    t.equal(await nextText(kept), 'k')
  }
  t.equal(exchanges, 600)
  kept.destroy()
  const serials = path.server.lines.map(({ source }) => Reflect.get(Object(source), 'serial'))
  t.equal(new Set(serials).size, 4)
})

type Renewed = Awaited<ReturnType<DataPath['pair']['issue']>>

function rotate({ pair }: DataPath, [client, server]: [Renewed, Renewed]): void {
  pair.clientTls.set(client)
  pair.serverTls.set(server)
}

t.test('a removed root ends the connections of its leaves, and of no others', async t => {
  await using path = await dataPath(echo())
  const socket = path.dial()
  socket.write('x')
  t.equal(await nextText(socket), 'x')
  const other = await testAuthority(TRUST_DOMAIN)
  const { root } = path.pair.authority
  const anchoredIn = createAnchorage()
  path.pair.server.closePeers(
    anchoredIn(trustDomain => ({ trustDomain, roots: [other.root, root] })),
    'PSTN_PEER_UNTRUSTED',
  )
  socket.write('y')
  t.equal(await nextText(socket), 'y', 'its root is still there')
  const reset = wasReset(socket)
  path.pair.server.closePeers(
    anchoredIn(() => other.bundle),
    'PSTN_PEER_UNTRUSTED',
  )
  t.equal(await reset, true)
  t.equal(await wasReset(path.dial()), true, 'nor does anybody come in with what is left of the old bundle')
  t.match(path.pair.refused, [{ code: 'PSTN_PEER_UNTRUSTED' }])
})

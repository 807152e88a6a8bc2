// TLS that the sidecar terminates on the application's own port, over real sockets: who comes in, how bytes and ends pass, what
// is refused by which code, and what ends a connection that lives.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { compile } from '../../shared/policy/compile.ts'
import type { PolicySet, TlsMode } from '../../shared/policy/model.ts'
import { revocationCheck } from '../../shared/revocation.ts'
import type { Issued } from '../support/certificates.ts'
import { applicationServer, type DataPath, dataPath, policySet } from '../support/data-path.ts'
import { CLIENT_ID, TRUST_DOMAIN } from '../support/tunnel-pair.ts'
import { wrongCertificates } from '../support/wrong-certificates.ts'

const MIB = 1024 * 1024

/** The application's port, whatever it is, terminated in this way. */
function terminating(path: DataPath, port: number, mode: TlsMode | undefined, set: PolicySet = policySet()) {
  const tls = mode && { tls: { [port]: mode } }
  path.policy.set(compile({ ...set, mode: { ...set.mode, ...tls } }, { trustDomain: TRUST_DOMAIN }))
}

async function start(t: Test, mode: TlsMode, handler: (socket: Socket) => void) {
  const application = applicationServer(handler)
  const path = await dataPath(application)
  t.teardown(() => path[Symbol.asyncDispose]())
  const bound = application.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  terminating(path, port, mode)
  const leaf = await path.pair.authority.issue({ identity: CLIENT_ID })
  /** The caller's end; half-open, as the raw connection that it goes over. */
  const dial = (options: ConnectionOptions = {}) => {
    const socket = connect({
      socket: path.dialPlain(),
      ca: [path.pair.authority.root],
      checkServerIdentity: () => undefined,
      ...options,
    })
    socket.on('error', () => {})
    return socket
  }
  const shown = ({ key, chain }: Issued) => ({ key, cert: chain })
  return { path, port, leaf, dial, dialKnown: () => dial(shown(leaf)), shown }
}

const echo = (socket: Socket) => socket.pipe(socket)
/** However it ends. */
const gone = (socket: Socket) => new Promise<void>(resolve => socket.once('close', () => resolve()))
const codeOf = async (path: DataPath) => (await path.server.next('decision')).code

const said = async (socket: TLSSocket): Promise<Buffer> => {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk)
  return Buffer.concat(chunks)
}

t.test('a caller with an SVID is who it says, in policy and in the log', async t => {
  const { path, dialKnown, leaf } = await start(t, 'mutual', echo)
  const socket = dialKnown()
  socket.end('hello')
  t.equal(String(await said(socket)), 'hello')
  t.match(await path.server.next('connection'), {
    direction: 'inbound',
    via: 'tls',
    source: { identity: CLIENT_ID, serial: leaf.serial },
    outcome: 'ok',
    bytesIn: 5,
    bytesOut: 5,
  })
})

t.test('policy decides by it, at first and later', async t => {
  const { path, port, dialKnown } = await start(t, 'mutual', echo)
  const only = (principals: string[]) =>
    policySet([
      {
        kind: 'AuthorizationPolicy',
        name: 'shop/only',
        action: 'ALLOW',
        rules: [{ from: [{ principals }] }],
        features: ['l4'],
      },
    ])
  terminating(path, port, 'mutual', only([`${TRUST_DOMAIN}/ns/shop/sa/other`]))
  dialKnown()
  t.equal(await codeOf(path), 'PSTN_POLICY_DENIED')

  terminating(path, port, 'mutual', only([`${TRUST_DOMAIN}/ns/shop/sa/client`]))
  const live = dialKnown()
  live.write('x')
  await once(live, 'data')
  const closed = gone(live)
  terminating(path, port, 'mutual', only([`${TRUST_DOMAIN}/ns/shop/sa/other`]))
  await closed
  t.equal(await codeOf(path), 'PSTN_POLICY_DENIED')
})

t.test('without a certificate: unknown, encrypted, and let in where none is asked for alone', async t => {
  const { path, port, dial } = await start(t, 'server', echo)
  terminating(path, port, 'server', policySet([], true))
  const socket = dial()
  socket.end('hello')
  t.equal(String(await said(socket)), 'hello')
  t.match(await path.server.next('connection'), {
    via: 'tls-anonymous',
    outcome: 'ok',
    source: { identity: undefined },
  })

  const live = dial()
  live.write('x')
  await once(live, 'data')
  const closed = gone(live)
  terminating(path, port, 'mutual')
  await closed
  t.equal(await codeOf(path), 'PSTN_PEER_NO_CERTIFICATE', 'whoever was let in before')
  dial()
  t.equal(await codeOf(path), 'PSTN_PEER_NO_CERTIFICATE')
})

t.test('wrong certificates are refused as in a tunnel', async t => {
  const { path, dial, shown, dialKnown } = await start(t, 'mutual', echo)
  for (const [name, code, leaf] of await wrongCertificates(path.pair.authority, CLIENT_ID)) {
    dial(shown(leaf))
    t.equal(await codeOf(path), code, name)
  }
  const right = dialKnown()
  right.end('x')
  t.equal(String(await said(right)), 'x', 'and the right one passes')
})

t.test('what is no TLS 1.3 is refused', async t => {
  const { path, dial } = await start(t, 'server', echo)
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', '\0\0\0\x08\x04\xd2\x16\x2f', 'SSH-2.0-x\r\n']) {
    path.dialPlain().write(bytes)
    t.equal(await codeOf(path), 'PSTN_PLAINTEXT_REFUSED', JSON.stringify(bytes))
  }
  const old = dial({ maxVersion: 'TLSv1.2' })
  const [error] = await once(old, 'error')
  t.equal(error.code, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'who is told why')
  t.equal(await codeOf(path), 'PSTN_TLS_FAILED')
  const stranger = dial({ ca: [] })
  await gone(stranger)
  t.equal(await codeOf(path), 'PSTN_TLS_FAILED', 'a caller that does not trust us')
})

t.test('a handshake has five seconds, and one address its share of them', async t => {
  const { path, dialKnown } = await start(t, 'mutual', echo)
  const idle = Array.from({ length: 64 }, () => path.dialPlain())
  await Promise.all(idle.map(socket => once(socket, 'connect')))
  await delay(100)
  path.dialPlain()
  t.equal(await codeOf(path), 'PSTN_LIMIT')
  t.same(path.pair.limits, ['tls_handshakes'])
  const started = performance.now()
  await Promise.all(idle.map(socket => gone(socket.resume())))
  t.ok(performance.now() - started < 6_000)
  const refused = 'postern_connections_refused_total{direction="inbound",code="PSTN_TLS_FAILED"} 64'
  t.ok(path.server.metrics.render().includes(refused), 'each is counted')
  const next = dialKnown()
  next.end('x')
  t.equal(String(await said(next)), 'x', 'then there is room again')
})

t.test('each direction ends on its own, and 10 MiB arrive whole both ways', async t => {
  const { dialKnown } = await start(t, 'mutual', socket => {
    const hash = createHash('sha256')
    socket.on('data', chunk => hash.update(chunk))
    socket.on('end', () => {
      const answer = randomBytes(10 * MIB)
      socket.write(hash.digest())
      socket.write(createHash('sha256').update(answer).digest())
      socket.end(answer)
    })
  })
  const sent = randomBytes(10 * MIB)
  const socket = dialKnown()
  socket.end(sent)
  const answer = await said(socket)
  t.same(answer.subarray(0, 32), createHash('sha256').update(sent).digest())
  t.same(answer.subarray(32, 64), createHash('sha256').update(answer.subarray(64)).digest())
  t.equal(answer.length, 64 + 10 * MIB)
})

t.test('a reader that stalls holds its sender back', async t => {
  let written = 0
  const { dialKnown } = await start(t, 'mutual', socket => {
    const chunk = Buffer.alloc(64 * 1024)
    const more = () => {
      do written += chunk.length
      while (written < 64 * MIB && socket.write(chunk))
    }
    socket.on('drain', more).on('error', () => {})
    more()
  })
  const socket = dialKnown()
  await once(socket, 'secureConnect')
  socket.pause()
  await delay(500)
  t.ok(written < 40 * MIB, `${written} bytes`)
  socket.destroy()
})

t.test('a connection that is cut is never taken for one that ended', async t => {
  const applications: Socket[] = []
  const { path, dialKnown, dial, shown, leaf } = await start(t, 'mutual', socket => {
    socket.on('error', () => {}).resume()
    applications.push(socket)
  })
  // A FIN without close_notify, as anybody on the way can send it.
  const raw = path.dialPlain()
  const cut = dial({ ...shown(leaf), socket: raw })
  cut.write('half')
  await delay(100)
  raw.end()
  t.match(await path.server.next('connection'), { outcome: 'reset', bytesIn: 4 })
  t.equal(applications[0]?.readableEnded, false)

  const reset = dialKnown()
  reset.write('x')
  await delay(100)
  applications[1]?.resetAndDestroy()
  await gone(reset)
  t.equal(reset.readableEnded, false, 'and the application’s reset is one for the caller')
})

t.test(
  'a root that is removed and a certificate that is revoked end their connections, and no others',
  async t => {
    const { path, dial, dialKnown, shown, leaf } = await start(t, 'mutual', echo)
    const talk = async (socket: TLSSocket) => {
      socket.write('x')
      await once(socket, 'data')
      return socket
    }
    const revoked = await talk(dialKnown())
    const other = await talk(dial(shown(await path.pair.authority.issue({ identity: CLIENT_ID }))))
    const check = revocationCheck({ serials: [leaf.serial], identities: [], pods: [] })
    path.revoked.set(check)
    const closed = gone(revoked)
    const swept = path.terminator.sweepPeers(peer => check(peer) === undefined, 'PSTN_PEER_REVOKED')
    t.match(swept, [{ serial: leaf.serial }])
    await closed
    t.equal(await codeOf(path), 'PSTN_PEER_REVOKED')
    await talk(other)
    dialKnown()
    t.equal(await codeOf(path), 'PSTN_PEER_REVOKED', 'nor does it come in again')
    path.terminator.closePeers(() => false, 'PSTN_PEER_UNTRUSTED')
    await gone(other)
    t.equal(await codeOf(path), 'PSTN_PEER_UNTRUSTED')
  },
)

t.test('a new certificate is shown to whoever comes next, and costs nobody a connection', async t => {
  const { path, dialKnown } = await start(t, 'mutual', echo)
  const before = dialKnown()
  await once(before, 'secureConnect')
  path.pair.serverTls.set(await path.pair.issue(`spiffe://${TRUST_DOMAIN}/ns/shop/sa/server`, 2))
  const after = dialKnown()
  await once(after, 'secureConnect')
  t.not(before.getPeerX509Certificate()?.serialNumber, after.getPeerX509Certificate()?.serialNumber)
  for (const socket of [before, after]) {
    socket.end('still')
    t.equal(String(await said(socket)), 'still')
  }
  path.pair.serverTls.set(undefined)
  dialKnown()
  await path.server.next('connection')
  t.equal(await codeOf(path), 'PSTN_NOT_READY', 'without one there is no handshake')
})

t.test('a port that is declared HTTP offers that, and its requests are read', async t => {
  const { path, port, dial, leaf, shown } = await start(t, 'mutual', socket => {
    socket.on('data', request => {
      const line = /x-forwarded-client-cert: ([^\r]*)/i.exec(String(request))?.[1] ?? 'none'
      socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${line.length}\r\nconnection: close\r\n\r\n${line}`)
    })
  })
  path.protocols.set({ [port]: 'http1' })
  const socket = dial({ ...shown(leaf), ALPNProtocols: ['h2', 'http/1.1'] })
  await once(socket, 'secureConnect')
  t.equal(socket.alpnProtocol, 'http/1.1')
  socket.write('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-forwarded-client-cert: forged\r\n\r\n')
  const answer = String(await said(socket))
  t.match(answer, /URI=spiffe:\/\/cluster.local\/ns\/shop\/sa\/client$/)
  t.match(await path.server.next('connection'), { via: 'tls', protocol: 'http1', requests: 1 })
  const other = dial({ ...shown(leaf), ALPNProtocols: ['h2'] })
  await gone(other)
  t.equal(await codeOf(path), 'PSTN_TLS_FAILED', 'no protocol in common')
})

t.test('beside it other ports take plaintext as before', async t => {
  const { path, port } = await start(t, 'mutual', echo)
  terminating(path, port, undefined)
  const socket = path.dialPlain()
  socket.end('plain')
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk)
  t.equal(String(Buffer.concat(chunks)), 'plain')
  t.match(await path.server.next('connection'), { via: 'plaintext' })
})

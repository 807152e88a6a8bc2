// Every wrong certificate at the real tunnel, from either end: refused with its code, before a request is sent or seen.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'
import type { TunnelTls } from '../../proxy/tunnel/interface.ts'
import { secureContext } from '../../shared/tls/contexts.ts'
import { type Issued, type TestAuthority, testAuthority } from '../support/certificates.ts'
import { withDuplex } from '../support/duplex-of.ts'
import { requireOpenssl } from '../support/openssl.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { CLIENT_ID, readAll, SERVER_ID, type TunnelPair, tunnelPair } from '../support/tunnel-pair.ts'
import { wrongCertificates } from '../support/wrong-certificates.ts'

/** What a sidecar with this certificate would show; it does not notice itself that the certificate is wrong. */
const showing = ({ key, chain }: Issued, { authority }: TunnelPair, generation: number): TunnelTls => ({
  generation,
  notAfter: new Date(Date.now() + 3_600_000),
  context: secureContext({ key, chain }, authority.bundle),
  partners: new Map(),
})

async function pairThatCounts() {
  const requests: string[] = []
  const pair = await tunnelPair({
    onRequest: withDuplex(request => {
      requests.push(request.peer.identity)
      request.accept().end('welcome')
    }),
  })
  return { pair, requests }
}

t.test('a caller with a wrong certificate is told its code, and no request of it is seen', async t => {
  const { pair, requests } = await pairThatCounts()
  await using _ = pair
  const honest = pair.clientTls.get()
  let generation = 2
  for (const [name, code, leaf] of await wrongCertificates(pair.authority, CLIENT_ID)) {
    generation += 1
    pair.clientTls.set(showing(leaf, pair, generation))
    await t.rejects(pair.open(), { code }, `a caller with a certificate ${name} learns why`)
    t.equal(pair.refused.at(-1)?.code, code, `and so does the log: ${name}`)
  }
  t.same(requests, [])
  pair.clientTls.set(honest)
  t.equal(String(await readAll((await pair.open()).stream)), 'welcome', 'control: the right one is let in')
  t.same(requests, [CLIENT_ID])
})

t.test('a CONNECT that does not wait for the handshake’s verdict is not served either', async t => {
  const { pair, requests } = await pairThatCounts()
  await using _ = pair
  for (const [name, code, { key, chain }] of await wrongCertificates(pair.authority, CLIENT_ID)) {
    const session = connectHttp2('https://127.0.0.1', {
      createConnection: () =>
        connectTls({
          ...secureContext({ key, chain }, pair.authority.bundle),
          host: '127.0.0.1',
          port: pair.server.port,
          ALPNProtocols: ['h2'],
          rejectUnauthorized: false,
        }),
    })
    session.on('error', () => {})
    const stream = session.request({ ':method': 'CONNECT', ':authority': '127.0.0.1:8080' })
    stream.on('error', () => {}).on('response', () => t.fail(`${name}: answered`))
    const [, , opaque] = await once(session, 'goaway')
    t.equal(String(opaque), code, name)
    session.destroy()
  }
  t.same(requests, [])
})

t.test('a pod that answers with a wrong certificate is not sent a request', async t => {
  const { pair, requests } = await pairThatCounts()
  await using _ = pair
  const honest = pair.serverTls.get()
  for (const [name, code, leaf] of await wrongCertificates(pair.authority, SERVER_ID)) {
    pair.serverTls.set(showing(leaf, pair, 1))
    await t.rejects(pair.open(), { code }, `a server with a certificate ${name}`)
  }
  t.same(requests, [])
  pair.serverTls.set(honest)
  t.equal(String(await readAll((await pair.open()).stream)), 'welcome', 'control: the right one is sent it')
})

/** A listener of another implementation, which says by a TLS alert what it thinks of a client. */
async function foreignListener(t: Test, { context }: TunnelTls, root: string): Promise<number> {
  const cwd = scratchDirectory(t)
  writeFileSync(join(cwd, 'shown.pem'), `${context.key}\n${context.cert}`, { mode: 0o600 })
  writeFileSync(join(cwd, 'root.pem'), root)
  const shown = ['-cert', 'shown.pem', '-key', 'shown.pem', '-cert_chain', 'shown.pem']
  const checked = ['-CAfile', 'root.pem', '-Verify', '1', '-verify_return_error', '-tls1_3', '-alpn', 'h2']
  const listener = spawn('openssl', ['s_server', '-accept', '127.0.0.1:0', ...shown, ...checked], { cwd })
  t.teardown(() => listener.kill())
  let said = ''
  for await (const chunk of listener.stdout) {
    said += chunk
    const [, port] = /^ACCEPT 127\.0\.0\.1:(\d+)$/m.exec(said) ?? []
    if (port !== undefined) return Number(port)
  }
  throw new Error(`openssl s_server has ended: ${said}`)
}

t.test('a peer’s alert about our certificate is told by its code', { skip: requireOpenssl() }, async t => {
  const listening = async (authority?: TestAuthority) =>
    tunnelPair({
      onRequest: () => {},
      dialPort: (_port, tls, { root }) => foreignListener(t, tls, authority?.root ?? root),
    })
  await t.test('unknown_ca', async t => {
    await using pair = await listening(await testAuthority('elsewhere.example'))
    await t.rejects(pair.open(), { code: 'PSTN_PEER_UNTRUSTED', message: /refused us/ })
  })
  await t.test('certificate_expired', async t => {
    await using pair = await listening()
    const past = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 3_600_000) }
    const late = await pair.authority.issue({ identity: CLIENT_ID, ...past })
    pair.clientTls.set(showing(late, pair, 2))
    await t.rejects(pair.open(), { code: 'PSTN_PEER_EXPIRED', message: /refused us/ })
  })
  await t.test('certificate_required', async t => {
    await using pair = await listening()
    const own = await pair.issue(CLIENT_ID, 2)
    const { key: _key, cert: _cert, ...anonymous } = own.context
    pair.clientTls.set({ ...own, context: anonymous })
    await t.rejects(pair.open(), { code: 'PSTN_PEER_NO_CERTIFICATE', message: /refused us/ })
  })
})

// Every wrong certificate at the real tunnel, from either end: refused with its code, before a request is sent or seen.
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import type { TunnelTls } from '../../proxy/tunnel/interface.ts'
import { secureContext } from '../../shared/tls/contexts.ts'
import type { Issued } from '../support/certificates.ts'
import { withDuplex } from '../support/duplex-of.ts'
import { CLIENT_ID, readAll, SERVER_ID, type TunnelPair, tunnelPair } from '../support/tunnel-pair.ts'
import { wrongCertificates } from '../support/wrong-certificates.ts'

/** What a sidecar with this certificate would show; it does not notice itself that the certificate is wrong. */
const showing = ({ key, chain }: Issued, { authority }: TunnelPair, generation: number): TunnelTls => ({
  generation,
  notAfter: new Date(Date.now() + 3_600_000),
  context: secureContext({ key, chain }, authority.bundle),
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

import { createHash, randomBytes } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket, TlsOptions } from 'node:tls'
import t, { type Test } from 'tap'
import { tunnelTls } from '../../../../proxy/identify/tunnel-tls.ts'
import { createOriginator } from '../../../../proxy/originate/originator.ts'
import type { TunnelTls } from '../../../../proxy/tunnel/interface.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { Ending } from '../../../../shared/ending.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { live } from '../../../../shared/live.ts'
import type { OutsideHost } from '../../../../shared/policy/outside-host.ts'
import { ExtendedKeyUsage, type IssueOptions, testAuthority } from '../../../support/certificates.ts'
import { DuplexOf } from '../../../support/duplex-of.ts'
import { requireOpenssl } from '../../../support/openssl.ts'
import {
  listenPlain,
  listenTls,
  OUTSIDE_NAME,
  opensslServer,
  outsideAuthority,
  outsideHost,
  outsideTls,
} from '../../../support/outside-host.ts'
import { endOf, nextText, readAll } from '../../../support/tunnel-pair.ts'

const mesh = await testAuthority('cluster.local')
const outside = await outsideAuthority()
const IDENTITY = 'spiffe://cluster.local/ns/shop/sa/web'
const own = async (generation = 1, issue: IssueOptions = {}) => {
  const issued = await mesh.issue({ identity: IDENTITY, subject: 'CN=web-1', ...issue })
  return tunnelTls(issued.credential(generation), mesh.bundle)
}
const tls = live<TunnelTls | undefined>(await own())
const originator = createOriginator({ tls, clock: systemClock, timeoutMs: 1_000 })

type Refused = { readonly refused: Promise<PosternError> }

function dial(port: number, host: OutsideHost, signal = new Ending()) {
  const { promise: refused, resolve } = Promise.withResolvers<PosternError>()
  const target = { address: '127.0.0.1', port, host }
  const opened = originator.open(target, signal, resolve).then(stream => new DuplexOf(stream))
  return Object.assign(opened, { refused } satisfies Refused)
}

const serverWith = async (
  t: Test,
  options: TlsOptions,
  onConnection: (socket: TLSSocket) => void = () => {},
) => {
  const server = await listenTls(options, onConnection)
  t.teardown(() => server[Symbol.asyncDispose]())
  return server.port
}

const mutual = { requestCert: true, rejectUnauthorized: true, ca: [mesh.root] }

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(`${maxVersion}: MUTUAL shows the SVID with its whole chain, and SNI`, async t => {
    const intermediate = await mesh.intermediate()
    tls.set(tunnelTls((await intermediate.issue({ identity: IDENTITY })).credential(7), mesh.bundle))
    t.teardown(async () => tls.set(await own()))
    const port = await serverWith(t, await outsideTls(outside, { ...mutual, maxVersion }), socket => {
      const { subjectaltname } = socket.getPeerCertificate()
      socket.end(JSON.stringify({ subjectaltname, sni: Reflect.get(socket, 'servername') }))
    })
    const stream = await dial(
      port,
      outsideHost(outside, { tls: { mode: 'MUTUAL', roots: outside.bundle.roots } }),
    )
    t.same(JSON.parse(String(await readAll(stream))), {
      subjectaltname: `URI:${IDENTITY}`,
      sni: 'api.partner.example',
    })
  })
}

t.test('SIMPLE shows nothing, to whoever asks', async t => {
  const options = await outsideTls(outside, { ...mutual, rejectUnauthorized: false })
  const port = await serverWith(t, options, socket => socket.end(JSON.stringify(socket.getPeerCertificate())))
  t.equal(String(await readAll(await dial(port, outsideHost(outside)))), '{}')
})

t.test('ALPN is offered as declared, and not otherwise', async t => {
  const port = await serverWith(t, await outsideTls(outside, { ALPNProtocols: ['h2'] }), socket =>
    socket.end(String(socket.alpnProtocol)),
  )
  const roots = outside.bundle.roots
  const offered = outsideHost(outside, { tls: { mode: 'SIMPLE', roots, alpn: ['h2'] } })
  t.equal(String(await readAll(await dial(port, offered))), 'h2')
  t.equal(String(await readAll(await dial(port, outsideHost(outside)))), 'false')
})

const HOUR = 3_600_000
const hours = (count: number) => new Date(Date.now() + count * HOUR)
const badCertificates: readonly [string, IssueOptions, string, RegExp][] = [
  ['another name', { dns: ['www.partner.example'] }, 'PSTN_OUTSIDE_NAME', /www\.partner\.example/],
  ['an address for a name', { dns: [], subject: 'CN=10.0.0.1' }, 'PSTN_OUTSIDE_NAME', /api\.partner/],
  ['a SPIFFE ID and no name', { dns: [], identity: IDENTITY }, 'PSTN_OUTSIDE_NAME', /api\.partner/],
  [
    'a certificate that has expired',
    { notBefore: hours(-2), notAfter: hours(-1) },
    'PSTN_OUTSIDE_UNTRUSTED',
    /CERT_HAS_EXPIRED/,
  ],
  [
    'a certificate of tomorrow',
    { notBefore: hours(24), notAfter: hours(48) },
    'PSTN_OUTSIDE_UNTRUSTED',
    /CERT_NOT_YET_VALID/,
  ],
  [
    'a certificate for clients alone',
    { extKeyUsage: [ExtendedKeyUsage.clientAuth] },
    'PSTN_OUTSIDE_UNTRUSTED',
    /INVALID_PURPOSE/,
  ],
]
for (const [name, issue, code, message] of badCertificates) {
  t.test(`a host with ${name} is refused`, async t => {
    let heard = 0
    const port = await serverWith(t, await outsideTls(outside, { issue }), socket =>
      socket.on('data', chunk => {
        heard += chunk.length
      }),
    )
    await t.rejects(dial(port, outsideHost(outside)), { code, message })
    t.equal(heard, 0)
  })
}

t.test('a host of another authority is refused, of the mesh’s own and of the same name too', async t => {
  for (const authority of [await outsideAuthority(), mesh]) {
    const port = await serverWith(t, await outsideTls(authority))
    await t.rejects(dial(port, outsideHost(outside)), { code: 'PSTN_OUTSIDE_UNTRUSTED' })
    const withPublicRoots = outsideHost(outside, { tls: { mode: 'SIMPLE' } })
    await t.rejects(
      dial(port, { ...withPublicRoots, tls: { mode: 'SIMPLE' } }),
      { code: 'PSTN_OUTSIDE_UNTRUSTED' },
      'nor is it one of the public web',
    )
    const nobody = outsideHost(outside, { tls: { mode: 'SIMPLE', roots: [] } })
    await t.rejects(dial(port, nobody), { code: 'PSTN_OUTSIDE_UNTRUSTED' }, 'no roots trust nobody')
  }
})

for (const version of ['tls1_2', 'tls1_3'] as const) {
  t.test(
    `${version}: a host that refuses our certificate, or misses it, is named so`,
    { skip: requireOpenssl() },
    async t => {
      const { key, chain } = await outside.issue({ dns: [OUTSIDE_NAME] })
      // It trusts its own clients alone.
      await using server = await opensslServer({ key, chain, roots: outside.root, version })
      const roots = outside.bundle.roots
      for (const mode of ['MUTUAL', 'SIMPLE']) {
        const dialled = dial(server.port, outsideHost(outside, { tls: { mode, roots } }))
        const outcome = await Promise.race([
          dialled.refused,
          dialled.then(
            () => dialled.refused,
            error => error,
          ),
        ])
        t.ok(outcome instanceof PosternError)
        // Before 1.3 the alert for a missing certificate is that of any failure.
        const code = mode === 'SIMPLE' && version === 'tls1_2' ? 'PSTN_OUTSIDE_TLS' : 'PSTN_OUTSIDE_REFUSED'
        t.match(outcome, { code, message: /shop\/partner \(api\.partner\.example\) at 127\.0\.0\.1/ }, mode)
      }
    },
  )
}

t.test('a host that speaks plaintext, is silent, hangs up, is too old or is not there', async t => {
  const talker = await listenPlain(socket => socket.write('220 mail ready\r\n'))
  const silent = await listenPlain(() => {})
  const gone = await listenPlain(socket => socket.destroy())
  const closed = await listenPlain(() => {})
  await closed[Symbol.asyncDispose]()
  const old = await serverWith(t, await outsideTls(outside, { minVersion: 'TLSv1', maxVersion: 'TLSv1.1' }))
  t.teardown(() => Promise.all([talker, silent, gone].map(server => server[Symbol.asyncDispose]())))
  const host = outsideHost(outside)
  for (const port of [talker.port, gone.port, old]) {
    await t.rejects(dial(port, host), { code: 'PSTN_OUTSIDE_TLS' })
  }
  await t.rejects(dial(silent.port, host), { code: 'PSTN_OUTSIDE_TLS', message: /no answer within 1000 ms/ })
  await t.rejects(dial(closed.port, host), { code: 'PSTN_DESTINATION_UNREACHABLE', message: /ECONNREFUSED/ })
})

t.test('not a byte is sent in plaintext to a host that does not speak TLS', async t => {
  const heard: Buffer[] = []
  const server = await listenPlain(socket => socket.on('data', (chunk: Buffer) => heard.push(chunk)))
  t.teardown(() => server[Symbol.asyncDispose]())
  await t.rejects(dial(server.port, outsideHost(outside)), { code: 'PSTN_OUTSIDE_TLS' })
  t.match(heard[0]?.[0], 0x16, 'a handshake record and nothing else')
})

t.test('without a certificate of our own MUTUAL is refused, and SIMPLE goes', async t => {
  const port = await serverWith(t, await outsideTls(outside), socket => socket.end('hello'))
  const roots = outside.bundle.roots
  const needs = outsideHost(outside, { tls: { mode: 'MUTUAL', roots } })
  t.teardown(async () => tls.set(await own()))
  tls.set(undefined)
  await t.rejects(dial(port, needs), { code: 'PSTN_NOT_READY' })
  t.equal(String(await readAll(await dial(port, outsideHost(outside)))), 'hello')
  tls.set(await own(3, { notBefore: hours(-2), notAfter: hours(-1) }))
  await t.rejects(dial(port, needs), { code: 'PSTN_CERT_EXPIRED' })
})

t.test('a certificate that was rotated is shown from then on, and the connection before goes on', async t => {
  const serials: string[] = []
  const port = await serverWith(t, await outsideTls(outside, mutual), socket => {
    serials.push(socket.getPeerCertificate().serialNumber)
    socket.pipe(socket)
  })
  const host = outsideHost(outside, { tls: { mode: 'MUTUAL', roots: outside.bundle.roots } })
  const first = await dial(port, host)
  first.write('before')
  t.equal(await nextText(first), 'before')
  tls.set(await own(4))
  const second = await dial(port, host)
  second.write('after')
  t.equal(await nextText(second), 'after')
  first.write('still')
  t.equal(await nextText(first), 'still')
  t.equal(new Set(serials).size, 2)
  for (const stream of [first, second]) stream.resetAndDestroy()
})

t.test('each direction ends on its own, and 10 MiB each way arrive whole', async t => {
  const port = await serverWith(t, await outsideTls(outside), socket => socket.pipe(socket))
  const stream = await dial(port, outsideHost(outside))
  const sent = randomBytes(10 * 1024 * 1024)
  stream.end(sent)
  const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
  t.equal(digest(await readAll(stream)), digest(sent))
})

t.test('the host may end first and go on reading', async t => {
  const { promise: heard, resolve } = Promise.withResolvers<string>()
  const port = await serverWith(t, await outsideTls(outside), async socket => {
    socket.end('bye')
    resolve(String(await readAll(socket)))
  })
  const stream = await dial(port, outsideHost(outside))
  t.equal(String(await readAll(stream)), 'bye')
  stream.end('still here')
  t.equal(await heard, 'still here')
})

t.test('a slow reader holds the sender back, on either side', async t => {
  const { promise: accepted, resolve } = Promise.withResolvers<TLSSocket>()
  const port = await serverWith(t, await outsideTls(outside), socket => resolve(socket.pause()))
  const stream = await dial(port, outsideHost(outside))
  const flood = randomBytes(16 * 1024 * 1024)
  const socket = await accepted
  stream.write(flood)
  socket.write(flood)
  await new Promise(resolve => setTimeout(resolve, 300))
  t.ok(stream.writableNeedDrain)
  t.ok(socket.writableLength > 1024 * 1024)
  stream.end()
  socket.end()
  const [there, here] = await Promise.all([readAll(socket.resume()), readAll(stream)])
  t.ok(there.equals(flood))
  t.ok(here.equals(flood))
})

t.test('a reset by either side is never taken for an end', async t => {
  const { promise: ended, resolve } = Promise.withResolvers<string>()
  const port = await serverWith(t, await outsideTls(outside), socket => {
    let how = 'closed without a word'
    socket.on('end', () => {
      how = 'ended'
    })
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      how = String(code)
    })
    socket.on('close', () => resolve(how)).resume()
  })
  const stream = await dial(port, outsideHost(outside))
  stream.resume().write('half')
  setTimeout(() => stream.resetAndDestroy(), 30)
  t.equal(await ended, 'ECONNRESET')

  const raw: Socket[] = []
  const options = await outsideTls(outside)
  const resetting = await listenTls(
    options,
    socket => socket.once('data', () => raw[0]?.resetAndDestroy()),
    raw,
  )
  t.teardown(() => resetting[Symbol.asyncDispose]())
  const cut = await dial(resetting.port, outsideHost(outside))
  cut.write('half')
  t.equal(await endOf(cut.resume()), 'cut off')
})

t.test('an attempt that is given up ends at once', async t => {
  const silent = await listenPlain(() => {})
  t.teardown(() => silent[Symbol.asyncDispose]())
  const signal = new Ending()
  const dialled = dial(silent.port, outsideHost(outside), signal)
  setTimeout(() => signal.abort(new PosternError('PSTN_DRAINING', 'over')), 20)
  await t.rejects(dialled, { code: 'PSTN_DRAINING' })
})

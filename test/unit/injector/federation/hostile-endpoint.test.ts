// A bundle endpoint that means harm: what it may cost us, where it can make us go, and what of its bundle is believed.
import { once } from 'node:events'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { fetchBundle } from '../../../../injector/federation/fetch.ts'
import { judge, pauseMs } from '../../../../injector/federation/judge.ts'
import { writeSpiffeBundle } from '../../../../shared/spiffe-bundle.ts'
import { createAuthority } from '../../../support/authority.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { openssl, requireOpenssl } from '../../../support/openssl.ts'
import { jsonAnswer, startWebServer } from '../../../support/web-server.ts'

const west = await testAuthority('west.example')
const GOOD = writeSpiffeBundle(west.bundle)
const authority = await createAuthority('web')
const { cert, key } = await authority.issue({ commonName: 'localhost', dns: ['localhost'] })
const never = new AbortController().signal
const UNREACHABLE = 'PSTN_PARTNER_UNREACHABLE'
const INVALID = 'PSTN_PARTNER_INVALID'

const ask = (port: number, ms = 5_000, ownRoots: readonly string[] = []) =>
  fetchBundle(
    { trustDomain: 'west.example', url: `https://localhost:${port}/b`, ownRoots, roots: [authority.cert] },
    never,
    { bytes: 256 * 1024, ms },
  )

/** Speaks TLS, and beyond it whatever it likes. */
async function raw(speak: (socket: TLSSocket) => void) {
  let written = 0
  const server = createTlsServer({ cert, key }, socket => {
    socket.on('error', () => undefined)
    socket.on('close', () => {
      written = socket.bytesWritten
    })
    socket.once('data', () => speak(socket))
  })
  server.on('tlsClientError', () => undefined)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    /** Of the last connection. */
    written: () => written,
    [Symbol.asyncDispose]: async () => {
      server.close()
    },
  }
}

/** The same again and again, as fast as it is taken. */
const flood = (first: string, again: string) => (socket: TLSSocket) => {
  const chunk = again.repeat(Math.ceil(16_384 / again.length))
  const pour = () => {
    while (!socket.destroyed && socket.write(chunk));
  }
  socket.on('drain', pour)
  socket.write(first)
  pour()
}

const head = (...lines: readonly string[]) => ['HTTP/1.1 200 OK', ...lines, '', ''].join('\r\n')

t.test('what comes without an end is cut off at once, whatever part of an answer it is', async t => {
  const cases = {
    'interim answers': flood('', 'HTTP/1.1 103 Early Hints\r\n\r\n'),
    'one header': flood('HTTP/1.1 200 OK\r\nx: ', 'x'),
    headers: flood('HTTP/1.1 200 OK\r\n', 'x: y\r\n'),
    'the status line': flood('HTTP/1.1 200 ', 'O'),
    body: flood(head(), ' '),
    chunks: flood(head('transfer-encoding: chunked'), '1\r\n \r\n'),
    'the extension of a chunk': flood(`${head('transfer-encoding: chunked')}1;`, 'x'),
    trailers: flood(`${head('transfer-encoding: chunked')}0\r\n`, 'x: y\r\n'),
  }
  for (const [what, speak] of Object.entries(cases)) {
    await using endpoint = await raw(speak)
    const began = performance.now()
    const refused = await t.rejects(ask(endpoint.port, 20_000), { code: UNREACHABLE }, what)
    t.ok(performance.now() - began < 5_000, `${what}: at once, not when its time is over`)
    t.notMatch(String(refused), /no whole answer/)
  }
})

t.test('what comes slowly has its time in sum, whatever part of an answer it is', async t => {
  const slowly = (first: string, again: string) => (socket: TLSSocket) => {
    socket.write(first)
    const timer = setInterval(() => socket.write(again), 10)
    socket.on('close', () => clearInterval(timer))
  }
  const cases = {
    headers: slowly('HTTP/1.1 200 OK\r\n', 'x: y\r\n'),
    body: slowly(head(), ' '),
    trailers: slowly(`${head('transfer-encoding: chunked')}0\r\n`, 'x: y\r\n'),
  }
  for (const [what, speak] of Object.entries(cases)) {
    await using endpoint = await raw(speak)
    await t.rejects(ask(endpoint.port, 200), { code: UNREACHABLE, message: /no whole answer/ }, what)
  }
})

t.test('nothing that comes is unpacked', async t => {
  const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, ' '))
  t.ok(bomb.length < 100_000, 'control: small as it comes')
  const heads = [
    ...['gzip', 'GZIP', 'br', 'deflate', 'zstd', 'identity, gzip'].map(how => `content-encoding: ${how}`),
    'transfer-encoding: gzip',
    'content-type: application/gzip',
  ]
  for (const line of heads) {
    await using endpoint = await raw(socket => {
      socket.end(Buffer.concat([Buffer.from(head(line, `content-length: ${bomb.length}`)), bomb]))
    })
    await t.rejects(ask(endpoint.port), { code: UNREACHABLE }, line)
  }
})

t.test('it cannot send us elsewhere, by no header, status or second answer', async t => {
  await using trap = await startWebServer(jsonAnswer(GOOD), 0, authority)
  const lines = [`location: ${trap.url}`, `refresh: 0; url=${trap.url}`, `link: <${trap.url}>; rel=preload`]
  for (const status of [
    '300 x',
    '301 x',
    '302 x',
    '303 x',
    '305 x',
    '307 x',
    '308 x',
    '101 x',
    '401 x',
    '426 x',
  ]) {
    const upgrade = ['connection: upgrade', 'upgrade: h2c', `alt-svc: h2="${new URL(trap.url).host}"`]
    await using endpoint = await raw(socket =>
      socket.end([`HTTP/1.1 ${status}`, ...lines, ...upgrade, '', ''].join('\r\n')),
    )
    await t.rejects(ask(endpoint.port, 1_000), { code: UNREACHABLE }, status)
  }
  await using twice = await raw(socket =>
    socket.end(`${head(...lines, 'content-length: 2')}{}${head(`content-length: ${GOOD.length}`)}${GOOD}`),
  )
  await t.rejects(ask(twice.port), { code: INVALID, message: /keys: missing/ }, 'the first answer counts')
  t.equal(trap.asked(), 0)
})

t.test(
  'a name that comes to lead to somebody else’s address: he is sent a hello, and no question',
  async t => {
    // As an address of metadata or a Service that speaks plain HTTP.
    const seen: Buffer[] = []
    const plain = createTcpServer(socket => {
      socket
        .on('error', () => undefined)
        .on('data', (chunk: Buffer) => {
          seen.push(chunk)
          socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}')
        })
    })
    await once(plain.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => plain.close())
    await t.rejects(ask((plain.address() as AddressInfo).port, 1_000), { code: UNREACHABLE })
    const bytes = Buffer.concat(seen)
    t.equal(bytes[0], 0x16, 'a TLS handshake')
    t.notMatch(bytes.toString('latin1'), /GET|HTTP\/|Host|accept/)
    // One that speaks TLS, under its own name.
    let asked = 0
    const own = await authority.issue({ commonName: 'kubernetes', dns: ['kubernetes.default.svc'] })
    const inside = createTlsServer({ cert: own.cert, key: own.key }, socket => {
      socket
        .on('error', () => undefined)
        .on('data', () => {
          asked += 1
        })
    })
    inside.on('tlsClientError', () => undefined)
    await once(inside.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => inside.close())
    await t.rejects(ask((inside.address() as AddressInfo).port), { code: UNREACHABLE, message: /altnames/ })
    t.equal(asked, 0)
  },
)

t.test('what of a hostile bundle is believed', async t => {
  await using web = await startWebServer(jsonAnswer(GOOD), 0, authority)
  const { port } = new URL(web.url)
  const said = (text: string) => {
    web.answer = jsonAnswer(text)
    return ask(Number(port))
  }
  const [entry] = (JSON.parse(GOOD) as { keys: object[] }).keys
  const other = await testAuthority('west.example')
  const refused: Record<string, readonly [string, RegExp]> = {
    'brackets without an end': ['['.repeat(250_000), /not JSON/],
    'objects in objects': [`${'{"keys":'.repeat(25_000)}1${'}'.repeat(25_000)}`, /not JSON|keys/],
    'thousands of entries': [`{"keys": [${'{},'.repeat(60_000)}{}]}`, /more than 1024/],
    'one root hundreds of times': [JSON.stringify({ keys: Array(300).fill(entry) }), /more than 64 roots/],
    'a number of 200,000 digits': [
      `{"spiffe_sequence": ${'9'.repeat(200_000)}, "keys": []}`,
      /not an integer/,
    ],
    'a sequence below zero': ['{"spiffe_sequence": -1, "keys": []}', /not an integer/],
    'a sequence of 65 bits': ['{"spiffe_sequence": 18446744073709551616, "keys": []}', /not an integer/],
    'a hint that is text': ['{"spiffe_refresh_hint": "60", "keys": []}', /not an integer/],
    'a hint of 10^30': [`{"spiffe_refresh_hint": 1${'0'.repeat(30)}, "keys": []}`, /not an integer/],
  }
  for (const [what, [text, message]] of Object.entries(refused)) {
    const began = performance.now()
    await t.rejects(said(text), { code: INVALID, message }, what)
    t.comment(`${what}: ${Math.round(performance.now() - began)} ms`)
  }
  const twice = GOOD.replace(
    '{',
    `{"keys": ${JSON.stringify([JSON.parse(writeSpiffeBundle(other.bundle)).keys[0]])},`,
  )
  t.same((await said(twice)).roots, west.bundle.roots, 'of keys that are written twice the last, never both')
  const smuggled = `{"__proto__": {"keys": [${JSON.stringify(entry)}]}, "keys": []}`
  await t.rejects(said(smuggled), { code: INVALID, message: /no root/ }, 'nothing by way of __proto__')
  web.answer = jsonAnswer(writeSpiffeBundle({ ...west.bundle, roots: [west.root, other.root] }))
  await t.rejects(
    ask(Number(port), 5_000, [other.root]),
    { code: INVALID, message: /a root of this mesh itself/ },
    'one of ours among his own: nothing of it is taken',
  )
  for (const [hint, ms] of [
    [0, 60_000],
    [1_000_000_000_000, 3_600_000],
  ] as const) {
    const bundle = await said(GOOD.replace('{', `{"spiffe_refresh_hint": ${hint},`))
    t.equal(pauseMs(judge(undefined, 'x', { kind: 'bundle', bundle }, 0), 0), ms, `a hint of ${hint}`)
  }
})

t.test(
  'roots whose keys make every check of a caller slow, or are weak',
  { skip: requireOpenssl() },
  async t => {
    await using web = await startWebServer(jsonAnswer(GOOD), 0, authority)
    const { port } = new URL(web.url)
    const served = (...key: readonly string[]) => {
      const options = key.flatMap(option => ['-pkeyopt', option])
      const usage = 'keyUsage=critical,keyCertSign,cRLSign'
      const args = [
        '-newkey',
        'rsa',
        ...options,
        '-nodes',
        '-keyout',
        'key',
        '-subj',
        '/CN=west',
        '-addext',
        usage,
      ]
      const der = openssl(['req', '-x509', ...args, '-outform', 'DER'])
      web.answer = jsonAnswer(
        JSON.stringify({ keys: [{ kty: 'RSA', use: 'x509-svid', x5c: [der.toString('base64')] }] }),
      )
      return ask(Number(port))
    }
    t.equal((await served('rsa_keygen_bits:2048')).roots.length, 1, 'control: as others are')
    const exponent = (2n ** 1000n + 1n).toString()
    await t.rejects(served('rsa_keygen_bits:2048', `rsa_keygen_pubexp:${exponent}`), {
      code: INVALID,
      message: /public exponent of more than 32 bits/,
    })
    await t.rejects(served('rsa_keygen_bits:1024'), { code: INVALID, message: /an RSA key of 1024 bits/ })
  },
)

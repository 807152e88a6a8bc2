// One question to a real https endpoint, as wrong as endpoints are.

import { once } from 'node:events'
import { createServer } from 'node:net'
import t from 'tap'
import { createRoot } from '../../../../injector/ca/authority.ts'
import { fetchBundle } from '../../../../injector/federation/fetch.ts'
import { writeSpiffeBundle } from '../../../../shared/spiffe-bundle.ts'
import { createAuthority } from '../../../support/authority.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { jsonAnswer, startWebServer, type WebServer } from '../../../support/web-server.ts'

const west = await testAuthority('west.example')
const GOOD = writeSpiffeBundle({ ...west.bundle, sequence: 3n, refreshHintSeconds: 60 })
const never = new AbortController().signal
let web: WebServer

t.before(async () => {
  web = await startWebServer(jsonAnswer(GOOD))
})
t.teardown(() => web[Symbol.asyncDispose]())

const ask = (
  options: {
    url?: string
    roots?: readonly string[]
    own?: readonly string[]
    bytes?: number
    ms?: number
  } = {},
) => {
  const { url = web.url, roots = [web.authority.cert], own = [], bytes = 256 * 1024, ms = 5_000 } = options
  return fetchBundle(
    { trustDomain: 'west.example', url, ownRoots: own, ...(roots.length > 0 && { roots }) },
    never,
    { bytes, ms },
  )
}
const UNREACHABLE = 'PSTN_PARTNER_UNREACHABLE'
const INVALID = 'PSTN_PARTNER_INVALID'

t.test('control: a bundle comes, with one question that carries nothing', async t => {
  let headers: object = {}
  web.answer = (request, response) => {
    headers = { method: request.method, url: request.url, ...request.headers }
    jsonAnswer(GOOD)(request, response)
  }
  t.match(await ask(), {
    trustDomain: 'west.example',
    roots: west.bundle.roots,
    sequence: 3n,
    refreshHintSeconds: 60,
  })
  t.strictSame(Object.keys(headers).sort(), [
    'accept',
    'accept-encoding',
    'connection',
    'host',
    'method',
    'url',
  ])
})

t.test('a certificate of another CA, of no known one, and for another name', async t => {
  web.answer = jsonAnswer(GOOD)
  const asked = web.asked()
  const { cert } = await createAuthority('web')
  await t.rejects(ask({ roots: [cert] }), {
    code: UNREACHABLE,
    message: /unable to verify|signature|certificate/,
  })
  await t.rejects(ask({ roots: [] }), { code: UNREACHABLE }, 'the public web PKI does not know it')
  const { port } = new URL(web.url)
  await t.rejects(ask({ url: `https://127.0.0.2:${port}/` }), { code: UNREACHABLE })
  await t.rejects(ask({ url: `https://ip6-localhost:${port}/` }), { code: UNREACHABLE })
  t.equal(web.asked(), asked, 'none of them was asked anything')
})

t.test('redirects are named and not followed', async t => {
  await using other = await startWebServer(jsonAnswer(GOOD), 0, web.authority)
  for (const status of [301, 302, 307, 308]) {
    web.answer = (_, response) => response.writeHead(status, { location: other.url }).end()
    await t.rejects(ask(), {
      code: UNREACHABLE,
      message: new RegExp(`redirects \\(${status}\\) to "https://localhost`),
    })
  }
  t.equal(other.asked(), 0)
})

t.test('any other status than 200', async t => {
  for (const status of [204, 206, 304, 404, 500, 503]) {
    web.answer = (_, response) => response.writeHead(status).end()
    await t.rejects(ask(), { code: UNREACHABLE, message: `it answered ${status}` })
  }
})

t.test('too much: with its length told, and without an end', async t => {
  web.answer = jsonAnswer('x'.repeat(300_000))
  await t.rejects(ask(), { code: UNREACHABLE, message: /more than 262144 bytes/ })
  web.answer = (_, response) => {
    response.write('x'.repeat(300_000))
  }
  await t.rejects(ask(), { code: UNREACHABLE, message: /more than 262144 bytes/ })
})

t.test('slow: no answer, a trickle, and no TLS at all', async t => {
  web.answer = () => undefined
  await t.rejects(ask({ ms: 200 }), { code: UNREACHABLE, message: /no whole answer within 0\.2 s/ })
  web.answer = (_, response) => {
    const timer = setInterval(() => response.write(' '), 20)
    response.on('close', () => clearInterval(timer))
  }
  await t.rejects(ask({ ms: 200 }), { code: UNREACHABLE, message: /no whole answer/ })
  const silent = createServer(() => undefined).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const { port } = Object(silent.address())
  await t.rejects(ask({ url: `https://127.0.0.1:${port}/`, ms: 200 }), {
    code: UNREACHABLE,
    message: /no whole answer/,
  })
})

t.test('an answer that breaks off, nobody there, and an encoding', async t => {
  web.answer = (_, response) => {
    response.writeHead(200, { 'content-length': GOOD.length })
    response.write(GOOD.slice(0, 20), () => response.destroy())
  }
  await t.rejects(ask(), { code: UNREACHABLE })
  await t.rejects(ask({ url: 'https://127.0.0.1:1/' }), { code: UNREACHABLE, message: /ECONNREFUSED/ })
  web.answer = (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('x')
  await t.rejects(ask(), { code: UNREACHABLE, message: /encoded/ })
})

t.test('what is no bundle of this trust domain', async t => {
  const own = await createRoot('cluster.local', Date.now())
  const rootOf = async (trustDomain: string) =>
    writeSpiffeBundle({ trustDomain, roots: [(await createRoot(trustDomain, Date.now())).certificate] })
  const rootsOf = (count: number, name: string) =>
    Promise.all(Array.from({ length: count }, async () => (await testAuthority(name)).root))
  const many = { ...west.bundle, roots: await rootsOf(65, 'west.example') }
  const large = { ...west.bundle, roots: await rootsOf(60, `${'a'.repeat(60)}.example`) }
  for (const [text, message] of [
    ['<html>', /not JSON/],
    ['', /not JSON/],
    ['[]', /not a JSON object/],
    ['{}', /keys: missing/],
    ['{"keys": []}', /holds no root/],
    ['{"keys": [{"kty": "EC", "use": "jwt-svid"}]}', /holds no root.*1 keys passed over/],
    ['\u0000', /not JSON/],
    [GOOD.replace(/"x5c": \[\s*"MII/, '"x5c": ["AAA'), /x5c/],
    [writeSpiffeBundle(many), /more than 64 roots/],
    [writeSpiffeBundle(large), /bytes of PEM/],
  ] as const) {
    web.answer = jsonAnswer(text)
    await t.rejects(ask(), { code: INVALID, message }, text.slice(0, 40))
  }
  web.answer = jsonAnswer(writeSpiffeBundle({ trustDomain: 'x', roots: [own.certificate] }))
  await t.rejects(ask({ own: [own.certificate] }), {
    code: INVALID,
    message: /of this mesh itself|trust domain cluster\.local/,
  })
  web.answer = jsonAnswer(await rootOf('west.example'))
  t.equal((await ask()).roots.length, 1, 'control: a root that names this domain')
})

t.test('whoever no longer wants to know is told so', async t => {
  web.answer = () => undefined
  const end = new AbortController()
  const asked = fetchBundle(
    { trustDomain: 'west.example', url: web.url, ownRoots: [], roots: [web.authority.cert] },
    end.signal,
  )
  end.abort(new Error('over'))
  await t.rejects(asked, { message: 'over' })
})

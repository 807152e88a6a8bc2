// Keys from a real https server, which answers as a case says.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { fetchKeys } from '../../../../proxy/authenticate/jwks-fetch.ts'
import { isKeyUrl, isOutOfReach } from '../../../../shared/jwt/fetchable.ts'
import { signingKey } from '../../../support/tokens.ts'
import { jsonAnswer, startWebServer, type WebServer } from '../../../support/web-server.ts'

const KEY = signingKey('one')
const KEYS = JSON.stringify({ keys: [KEY.jwk, { kty: 'oct', k: 'eA' }] })
const anywhere = fetchKeys(() => false, { bytes: 4096, ms: 500 })
const never = new AbortController().signal
const source = (web: WebServer) => ({ uri: web.url, roots: [web.authority.cert] })

t.test('the keys for signatures, and why others are of no use', async t => {
  await using web = await startWebServer(jsonAnswer(KEYS))
  t.match(await anywhere(source(web), never), { keys: [{ kid: 'one' }], unusable: [/symmetric/] })
})

t.test('a certificate that none of the roots vouches for is not believed', async t => {
  await using web = await startWebServer(jsonAnswer(KEYS))
  await using other = await startWebServer(jsonAnswer(KEYS))
  await t.rejects(anywhere({ uri: web.url }, never), { code: 'PSTN_JWKS_UNAVAILABLE' }, 'the public roots')
  await t.rejects(anywhere({ uri: web.url, roots: [other.authority.cert] }, never), {
    code: 'PSTN_JWKS_UNAVAILABLE',
  })
  t.equal(web.asked(), 0)
})

t.test('a name that leads to the pod itself is not dialled', async t => {
  await using web = await startWebServer(jsonAnswer(KEYS))
  await t.rejects(fetchKeys()(source(web), never), {
    code: 'PSTN_JWKS_UNAVAILABLE',
    message: /pod or its node/,
  })
  const literal = { ...source(web), uri: web.url.replace('localhost', '127.0.0.1') }
  await t.rejects(fetchKeys()(literal, never), { code: 'PSTN_JWKS_UNAVAILABLE', message: /pod or its node/ })
  t.equal(web.asked(), 0)
  t.ok(await anywhere(literal, never), 'control')
})

const ANSWERS: readonly (readonly [what: string, answer: WebServer['answer'], why: RegExp])[] = [
  [
    'a redirect',
    (_, response) => response.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
    /redirects/,
  ],
  ['an error', (_, response) => response.writeHead(500).end(KEYS), /answered 500/],
  ['too much', jsonAnswer(`{"keys":[],"a":"${'x'.repeat(5000)}"}`), /more than 4096 bytes/],
  ['no JSON', jsonAnswer('<html>'), /JSON/],
  ['a set twice', jsonAnswer('{"keys":[],"keys":[]}'), /twice/],
  ['no key', jsonAnswer('{"keys":[]}'), /no key/],
  ['symmetric keys alone', jsonAnswer('{"keys":[{"kty":"oct","k":"eA"}]}'), /symmetric/],
  [
    'a compressed one',
    (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end('x'),
    /encoded/,
  ],
  ['nothing', () => undefined, /within 0.5 s/],
  ['an answer that never ends', (_, response) => void response.writeHead(200).write('{'), /within 0.5 s/],
  [
    'an answer that breaks off',
    (_, response) =>
      void response.writeHead(200, { 'content-length': 99 }).write('{', () => response.destroy()),
    /./,
  ],
]
for (const [what, answer, message] of ANSWERS)
  t.test(`${what} is no set of keys`, async t => {
    await using web = await startWebServer(answer)
    await t.rejects(anywhere(source(web), never), { code: 'PSTN_JWKS_UNAVAILABLE', message })
  })

t.test('it ends with the sidecar', async t => {
  await using web = await startWebServer(() => undefined)
  const stopped = new AbortController()
  const asked = anywhere(source(web), stopped.signal)
  await delay(50)
  stopped.abort(new Error('the end'))
  await t.rejects(asked, { message: 'the end' })
})

t.test('what is at the pod or its node alone is out of reach, in whatever spelling', async t => {
  for (const address of [
    '127.0.0.1',
    '127.9.9.9',
    '0.0.0.0',
    '169.254.169.254',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:a9fe:a9fe',
    'fe80::1',
    'fe80::1%eth0',
    'ff02::1',
    'nonsense',
  ])
    t.ok(isOutOfReach(address), address)
  for (const address of ['10.1.2.3', '192.168.0.1', '203.0.113.7', 'fd00::1', '2001:db8::1'])
    t.notOk(isOutOfReach(address), address)
  for (const url of [
    'https://127.1/',
    'https://2130706433/',
    'https://[::ffff:127.0.0.1]/',
    'https://localhost./',
    'https://a.localhost/',
    'https:/\\evil',
    'HTTP://id.example/',
    '',
  ])
    t.equal(isKeyUrl(url), url === 'https:/\\evil', url)
})

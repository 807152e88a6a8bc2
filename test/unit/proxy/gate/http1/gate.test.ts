import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { PosternError } from '../../../../../shared/errors.ts'
import { gateInMemory } from '../../../../support/gate-in-memory.ts'

const get = (path: string, fields = ''): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n${fields}\r\n`
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

t.test('a head that needs no change and an answer pass byte by byte as they came', async t => {
  const { caller, application, outcomes, traffic } = gateInMemory()
  caller.send(get('/a?b', 'x-A:  1 \r\n'))
  t.equal(application.text, get('/a?b', 'x-A:  1 \r\n'))
  application.send(OK)
  t.equal(caller.text, OK)
  t.match(outcomes, [{ request: { method: 'GET', host: 'a', path: '/a' }, status: 200, refusal: undefined }])
  t.same(traffic, { aToB: application.text.length, bToA: OK.length })
})

t.test('what is changed: the target, and who calls', async t => {
  const { caller, application } = gateInMemory({ forwardedClientCert: 'By=b;URI=u' })
  caller.send('GET http://A/%61?q HTTP/1.1\r\nX: 1\r\nX_forwarded-Client.Cert: me\r\nHost: a\r\n\r\n')
  t.equal(
    application.text,
    'GET /a?q HTTP/1.1\r\nx-forwarded-client-cert: By=b;URI=u\r\nX: 1\r\nHost: a\r\n\r\n',
  )
})

t.test('offers of HTTP/2 and TLS are dropped, and the request goes on', async t => {
  const { caller, application } = gateInMemory({ forwardedClientCert: 'By=b;URI=u' })
  caller.send(
    get('/', 'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nX: 1\r\nHTTP2-Settings: AA\r\n'),
  )
  const wanted = get('/', 'Connection: Upgrade, HTTP2-Settings\r\nX: 1\r\n')
  t.equal(application.text, wanted.replace('Host:', 'x-forwarded-client-cert: By=b;URI=u\r\nHost:'))
  application.send(OK)
  t.equal(caller.text, OK)

  const tls = gateInMemory()
  tls.caller.send(get('/', 'Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n'))
  t.equal(tls.application.text, get('/', 'Connection: Upgrade\r\n'))
})

t.test('a request is alive from its head to the end of its answer', async t => {
  const { caller, application, live } = gateInMemory()
  caller.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab')
  t.equal(live(), 1)
  application.send(OK)
  t.equal(live(), 1, 'answered early, it is still being sent')
  caller.send('cd')
  t.equal(live(), 0)
  caller.send(get('/'))
  application.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n')
  t.equal(live(), 1)
  application.send('\r\n')
  t.equal(live(), 0)
})

t.test('a revoked request ends the connection for both', async t => {
  const { caller, application, outcomes, revoke, result } = gateInMemory()
  caller.send(get('/'))
  const why = new PosternError('PSTN_POLICY_DENIED', 'by a new policy')
  revoke(why)
  t.ok(caller.wasReset && application.wasReset)
  t.same(await result, { outcome: 'aborted', reason: why })
  t.match(outcomes, [{ status: 0, refusal: { code: 'PSTN_POLICY_DENIED' } }])
})

t.test('a refusal waits for the answers before it, and what comes behind waits for both', async t => {
  const { caller, application, outcomes } = gateInMemory({ allow: ({ path }) => path !== '/no' })
  caller.send(get('/1') + get('/no') + get('/2'))
  t.equal(application.text, get('/1'))
  t.ok(caller.paused, 'nothing more is read')
  t.equal(caller.text, '')
  application.send(OK)
  t.match(
    caller.text,
    /^HTTP\/1\.1 200 OK\r\n.*okHTTP\/1\.1 403 Forbidden\r\npostern-code: PSTN_POLICY_DENIED\r\n/s,
  )
  t.equal(application.text, get('/1') + get('/2'))
  application.send(OK)
  t.same(
    outcomes.map(({ status }) => status),
    [200, 403, 200],
  )
})

t.test('the body of a refused request is not taken for the next one', async t => {
  const { caller, application } = gateInMemory({ allow: ({ path }) => path !== '/no' })
  caller.send(
    `POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: ${get('/x').length}\r\n\r\n${get('/x')}${get('/2')}`,
  )
  t.match(caller.text, / 403 /)
  t.notMatch(caller.text, /connection: close/)
  t.equal(application.text, get('/2'))
})

t.test('a refused request with a body of unknown or great length closes the connection', async t => {
  for (const field of ['Transfer-Encoding: chunked', 'Content-Length: 1000000']) {
    const { caller, application } = gateInMemory({ allow: () => false })
    caller.send(`POST / HTTP/1.1\r\nHost: a\r\n${field}\r\n\r\n`)
    t.match(caller.text, / 403 .*connection: close/s)
    t.ok(caller.ended && application.ended)
    t.equal(application.text, '')
  }
})

t.test('a refused HEAD has the head of its answer alone', async t => {
  const { caller } = gateInMemory({ allow: () => false })
  caller.send('HEAD / HTTP/1.1\r\nHost: a\r\n\r\n')
  t.match(caller.text, /content-length: 19\r\n\r\n$/)
})

t.test('not more than 32 requests are on their way', async t => {
  const { caller, application } = gateInMemory()
  caller.send(get('/').repeat(40))
  t.equal(application.text, get('/').repeat(32))
  t.ok(caller.paused)
  application.send(OK.repeat(3))
  t.equal(application.text, get('/').repeat(35))
})

t.test('the slow hold the fast back, in both directions', async t => {
  const { caller, application } = gateInMemory()
  application.accepts = false
  caller.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n')
  t.ok(caller.paused)
  application.drain()
  t.notOk(caller.paused)
  caller.accepts = false
  application.send('HTTP/1.1 200 OK\r\n\r\n')
  t.ok(application.paused)
  caller.drain()
  t.notOk(application.paused)
})

t.test('a head that does not come in time is a 408', async t => {
  const { caller, application, outcomes, result } = gateInMemory({ headTimeoutMs: 20 })
  caller.send('GET / HTTP/1.1\r\nHost: ')
  await delay(60)
  t.match(caller.text, /^HTTP\/1\.1 408 .*PSTN_HTTP_TIMEOUT/s)
  t.match(outcomes, [{ request: undefined, status: 408, refusal: { code: 'PSTN_HTTP_TIMEOUT' } }])
  caller.sendEnd()
  application.sendEnd()
  t.same(await result, { outcome: 'ended' })
})

t.test('time runs for one head, not for the connection', async t => {
  const { caller, application } = gateInMemory({ headTimeoutMs: 40 })
  for (let n = 0; n < 4; n++) {
    caller.send('GET / HTTP/1.1\r\n')
    await delay(15)
    caller.send('Host: a\r\n\r\n')
    application.send(OK)
  }
  await delay(60)
  t.notMatch(caller.text, /408/)
})

t.test('a body that breaks is a 400 in its turn, and the application never gets its end', async t => {
  const { caller, application, outcomes } = gateInMemory()
  caller.send(`${get('/1')}POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n`)
  t.notOk(application.wasReset, 'the first is still to be answered')
  application.send(OK)
  t.match(caller.text, /okHTTP\/1\.1 400 .*PSTN_HTTP_MALFORMED/s)
  t.ok(application.wasReset)
  t.match(outcomes, [{ status: 200 }, { request: { path: '/2' }, status: 400, refusal: {} }])
})

t.test('a body that breaks behind the beginning of its answer cuts both off', async t => {
  const { caller, application, result } = gateInMemory()
  caller.send('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
  application.send('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc')
  caller.send('X\r\n')
  t.ok(caller.wasReset && application.wasReset)
  t.match(await result, { outcome: 'aborted', reason: { code: 'PSTN_HTTP_MALFORMED' } })
})

t.test('the caller’s end: passed on between requests, a cut within a body, a 400 within a head', async t => {
  const between = gateInMemory()
  between.caller.send(get('/'))
  between.caller.sendEnd()
  t.ok(between.application.ended)
  between.application.send(OK)
  t.equal(between.caller.text, OK)

  const within = gateInMemory()
  within.caller.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab')
  within.caller.sendEnd()
  t.ok(within.application.wasReset)
  t.same(await within.result, { outcome: 'reset' })

  const head = gateInMemory()
  head.caller.send('GET / HT')
  head.caller.sendEnd()
  t.match(head.caller.text, / 400 /)
})

t.test('the end of a caller that must wait is passed on when it has waited', async t => {
  const { caller, application } = gateInMemory({ allow: ({ path }) => path !== '/no' })
  caller.send(get('/1') + get('/no') + get('/2'))
  caller.sendEnd()
  t.notOk(application.ended)
  application.send(OK)
  await null
  t.equal(application.text, get('/1') + get('/2'))
  t.ok(application.ended)
})

t.test('the application’s end: an answer until the end is whole, any other is cut off', async t => {
  const whole = gateInMemory()
  whole.caller.send(get('/'))
  whole.application.send('HTTP/1.0 200 OK\r\n\r\nabc')
  whole.application.sendEnd()
  t.match(whole.caller.text, /abc$/)
  t.ok(whole.caller.ended)
  t.match(whole.outcomes, [{ status: 200, refusal: undefined }])

  for (const part of [
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n',
  ]) {
    const cut = gateInMemory()
    cut.caller.send(get('/'))
    cut.application.send(part)
    cut.application.sendEnd()
    t.ok(cut.caller.wasReset)
  }

  const silent = gateInMemory()
  silent.caller.send(get('/'))
  silent.application.sendEnd()
  t.ok(silent.caller.ended)
  t.match(silent.outcomes, [{ status: 0, refusal: undefined }])
})

t.test('an application that is cut off behind its answer takes nothing of it back', async t => {
  const { caller, application } = gateInMemory()
  caller.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n')
  application.send('HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n')
  application.sendReset()
  t.notOk(caller.wasReset)
  t.ok(caller.ended)
})

t.test('an answer that cannot be read is a 502, or a cut where some of it has passed', async t => {
  for (const answer of [
    'nonsense\r\n\r\n',
    'HTTP/1.1 200 OK\nContent-Length: 0\n\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n',
    'HTTP/2 200\r\n\r\n',
    'HTTP/1.1 101 S\r\n\r\n',
    'HTTP/1.1 099 X\r\n\r\n',
  ]) {
    const { caller, application } = gateInMemory()
    caller.send(get('/'))
    application.send(answer)
    t.match(caller.text, /^HTTP\/1\.1 502 Bad Gateway\r\npostern-code: PSTN_HTTP_ANSWER/, answer)
    t.ok(application.wasReset)
  }
  const { caller, application } = gateInMemory()
  caller.send(get('/'))
  application.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
  application.send('X\r\n')
  t.ok(caller.wasReset)
})

t.test('an answer that nobody asked for never reaches the caller', async t => {
  const { caller, application, result } = gateInMemory()
  caller.send(get('/'))
  application.send(`${OK}${OK}`)
  t.equal(caller.text, OK)
  t.ok(caller.ended && application.wasReset)
  caller.sendEnd()
  t.match(await result, { outcome: 'aborted', reason: { code: 'PSTN_HTTP_ANSWER' } })
})

t.test('interim answers pass, and the head of an answer may come in pieces', async t => {
  const { caller, application } = gateInMemory()
  caller.send(get('/'))
  const answer = `HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${OK}`
  for (const byte of answer) application.send(byte)
  t.equal(caller.text, answer)
})

t.test('a policy that has not arrived is a 503', async t => {
  const { caller } = gateInMemory({
    allow: () => {
      throw new PosternError('PSTN_NOT_READY', 'no policy has arrived yet')
    },
  })
  caller.send(get('/'))
  t.match(caller.text, /^HTTP\/1\.1 503 .*PSTN_NOT_READY/s)
})

t.test('every reading of a path is asked about, and one that is forbidden forbids it', async t => {
  const { caller, application, asked, live } = gateInMemory({ allow: ({ path }) => path !== '/admin' })
  caller.send(get('/admin;x=1'))
  t.match(caller.text, / 403 /)
  t.equal(application.text, '')
  caller.send(get('/a;x'))
  t.equal(application.text, get('/a;x'))
  t.same(
    asked.map(({ path }) => path),
    ['/admin;x=1', '/admin', '/a;x', '/a'],
  )
  application.send(OK)
  t.equal(live(), 0)
})

t.test('a caller that does not read our answers is not read from', async t => {
  const { caller } = gateInMemory({ allow: () => false })
  caller.accepts = false
  caller.send(get('/'))
  t.ok(caller.paused)
  caller.drain()
  t.notOk(caller.paused)
})

t.test('a caller that is slow to read answers of the application may go on sending', async t => {
  const { caller, application } = gateInMemory()
  caller.accepts = false
  caller.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab')
  application.send('HTTP/1.1 200 OK\r\n\r\n')
  t.same([caller.paused, application.paused], [false, true])
  caller.send('cd')
  t.match(application.text, /abcd$/)
})

t.test('what an application has sent before its end may take its reader any time', async t => {
  const { caller, application, result } = gateInMemory({ lingerMs: 20 })
  caller.send(get('/'))
  application.send(OK)
  application.sendEnd()
  t.ok(caller.ended)
  await delay(60)
  t.notOk(caller.wasReset, 'it may still be reading')
  caller.sendEnd()
  t.same(await result, { outcome: 'ended' })
})

t.test('a caller that goes on sending behind the end is cut off', async t => {
  for (const last of [OK, '']) {
    const { caller, application, result } = gateInMemory({ lingerMs: 20 })
    caller.send(last ? get('/') : 'nonsense\r\n')
    application.send(last)
    if (last) application.sendEnd()
    caller.send(get('/'))
    await delay(60)
    t.ok(caller.wasReset)
    t.same(await result, { outcome: 'ended' })
  }
})

t.test('the time for a head stands still while the caller is not read from', async t => {
  const { caller, application } = gateInMemory({ headTimeoutMs: 20 })
  application.accepts = false
  caller.send(`${get('/')}GET / HTTP/1.1\r\n`)
  application.send(OK)
  await delay(60)
  t.notMatch(caller.text, /408/)
  application.drain()
  await delay(60)
  t.match(caller.text, /408/)
})

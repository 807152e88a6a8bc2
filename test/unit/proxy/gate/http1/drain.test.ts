import t from 'tap'
import { Ending } from '../../../../../shared/ending.ts'
import { type GateInMemory, gateInMemory, type InMemoryOptions } from '../../../../support/gate-in-memory.ts'

const get = (path: string, fields = ''): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n${fields}\r\n`
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
const LAST = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nconnection: close\r\n\r\nok'

function given(options: InMemoryOptions = {}): GateInMemory & { drain(): void } {
  const draining = new Ending()
  const gate = gateInMemory({ draining, ...options })
  return { ...gate, drain: () => draining.abort(undefined) }
}

async function endsInOrder({ caller, application, result }: GateInMemory) {
  caller.sendEnd()
  application.sendEnd()
  return (await result).outcome
}

t.test('a kept connection on which nothing is under way ends at once', async t => {
  const gate = given()
  gate.caller.send(get('/'))
  gate.application.send(OK)
  t.notOk(gate.caller.ended)
  gate.drain()
  t.ok(gate.caller.ended && gate.application.ended)
  t.notOk(gate.caller.wasReset || gate.application.wasReset)
  t.equal(await endsInOrder(gate), 'ended')
})

t.test('an answer that has not begun says that it is the last', async t => {
  const gate = given()
  gate.caller.send(get('/'))
  gate.drain()
  t.notOk(gate.caller.ended)
  gate.application.send('HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n')
  t.notMatch(gate.caller.text, /close/, 'an interim one cannot')
  gate.caller.written.length = 0
  for (const byte of OK) gate.application.send(byte)
  t.equal(gate.caller.text, LAST)
  t.ok(gate.caller.ended && gate.application.ended)
  t.equal(await endsInOrder(gate), 'ended')
})

t.test('what the application says about the connection gives way', t => {
  for (const said of ['keep-alive', 'Close']) {
    const { caller, application, drain } = given()
    caller.send(get('/'))
    drain()
    application.send(`HTTP/1.1 200 OK\r\nConnection: ${said}\r\nX: 1\r\nContent-Length: 0\r\n\r\n`)
    t.equal(caller.text, 'HTTP/1.1 200 OK\r\nconnection: close\r\nX: 1\r\nContent-Length: 0\r\n\r\n')
  }
  t.end()
})

t.test('an answer that has begun ends in peace, and so does its connection', t => {
  const { caller, application, drain } = given()
  caller.send(get('/'))
  application.send(OK.slice(0, -1))
  drain()
  t.notOk(caller.ended)
  application.send('k')
  t.equal(caller.text, OK)
  t.ok(caller.ended)
  t.end()
})

t.test('the first request of a new connection is waited for, and a head that has begun', t => {
  for (const before of ['', get('/1')]) {
    const { caller, application, asked, drain } = given()
    caller.send(before)
    if (before) application.send(OK)
    if (before) caller.send('GET')
    drain()
    t.notOk(caller.ended)
    caller.send(get('/2').slice(before ? 3 : 0))
    application.send(OK)
    t.equal(caller.text, before ? OK + LAST : LAST)
    t.equal(asked.at(-1)?.path, '/2')
    t.ok(caller.ended)
  }
  t.end()
})

t.test('of requests that are on their way the last answer says it, and none behind it is taken', t => {
  const { caller, application, asked, drain } = given()
  caller.send(get('/1') + get('/2'))
  drain()
  application.send(OK)
  t.equal(caller.text, OK)
  application.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n')
  caller.send(get('/3'))
  application.send('ok')
  t.equal(caller.text, OK + LAST)
  t.equal(asked.length, 2)
  t.ok(caller.ended)
  t.end()
})

t.test('a body that is still being sent ends before its connection', t => {
  const { caller, application, drain } = given()
  caller.send('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab')
  drain()
  application.send(OK)
  t.equal(caller.text, LAST)
  t.notOk(caller.ended)
  caller.send('cd')
  t.ok(application.text.endsWith('abcd'))
  t.ok(caller.ended)
  t.end()
})

t.test('a refusal says it, and what waits before it does not', t => {
  const { caller, application, drain } = given({ allow: ({ path }) => path !== '/no' })
  caller.send(get('/') + get('/no'))
  drain()
  application.send(OK)
  t.match(
    caller.text,
    /^HTTP\/1\.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP\/1\.1 403 .*connection: close\r\n/s,
  )
  t.ok(caller.ended)
  t.end()
})

t.test('a WebSocket goes on', t => {
  const { caller, application, drain } = given()
  caller.send(get('/', 'Upgrade: websocket\r\nConnection: Upgrade\r\n'))
  drain()
  const agreed = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'
  application.send(agreed)
  caller.send('frames')
  t.equal(caller.text, agreed)
  t.match(application.text, /frames$/)
  t.notOk(caller.ended)
  t.end()
})

t.test('a connection that begins during the drain is served once', t => {
  const draining = new Ending()
  draining.abort(undefined)
  const { caller, application } = gateInMemory({ draining })
  caller.send(get('/'))
  application.send(OK)
  t.equal(caller.text, LAST)
  t.ok(caller.ended)
  t.end()
})

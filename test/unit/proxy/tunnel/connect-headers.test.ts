import t from 'tap'
import {
  readAnswer,
  readConnect,
  writeAnswer,
  writeConnect,
} from '../../../../proxy/tunnel/connect-headers.ts'

t.test('a CONNECT is read as it was written, with HBONE’s headers alone', async t => {
  const list = writeConnect('10.0.0.1:80', { forwarded: 'for=10.0.0.2', 'x-other': 'dropped' })
  t.same(readConnect(list, 1), {
    kind: 'connect',
    authority: '10.0.0.1:80',
    headers: { forwarded: 'for=10.0.0.2' },
  })
})

t.test('what is no CONNECT is told from what is no request', async t => {
  const get = [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', 'a'],
    [':path', '/'],
  ] as const
  t.same(readConnect(get, 1), { kind: 'other', method: 'GET' })
  t.match(readConnect(get.slice(0, 3), 1), { kind: 'malformed' })
  const extended = [[':method', 'CONNECT'], [':protocol', 'websocket'], ...get.slice(1)] as const
  t.same(readConnect(extended, 1), { kind: 'other', method: 'CONNECT' })
  t.match(readConnect([[':method', 'CONNECT']], 1), { kind: 'malformed' })
  t.match(readConnect([...writeConnect('a:1', {}), ['Upper', 'x']], 1), { kind: 'malformed' })
})

t.test('an answer says its status and our code', async t => {
  t.same(readAnswer(writeAnswer(200), 1), { status: 200, code: undefined })
  t.same(readAnswer(writeAnswer(403, 'PSTN_POLICY_DENIED'), 1), { status: 403, code: 'PSTN_POLICY_DENIED' })
  t.equal(readAnswer([[':status', 'ok']], 1), undefined)
})

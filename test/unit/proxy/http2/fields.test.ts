import t, { type Test } from 'tap'
import { ErrorCode, Http2Error } from '../../../../proxy/http2/errors.ts'
import { checkTrailers, readRequest, readResponse } from '../../../../proxy/http2/fields.ts'
import type { Header } from '../../../../proxy/http2/header.ts'

const GET: readonly Header[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':authority', 'shop:8080'],
  [':path', '/cart?id=1'],
]
const with_ = (name: string, value: string): Header[] =>
  GET.map(header => (header[0] === name ? [name, value] : header))
const without = (name: string): Header[] => GET.filter(header => header[0] !== name)

t.test('a request is read', async t => {
  t.same(readRequest([...GET, ['accept', '*/*'], ['te', 'trailers']], 1), {
    method: 'GET',
    scheme: 'http',
    authority: 'shop:8080',
    path: '/cart?id=1',
    protocol: undefined,
    fields: [
      ['accept', '*/*'],
      ['te', 'trailers'],
    ],
  })
})

const SOUND: readonly (readonly [what: string, headers: readonly Header[]])[] = [
  ['a host that says the same as :authority', [...GET, ['host', 'SHOP:8080']]],
  ['a host instead of :authority', [...without(':authority'), ['host', 'shop']]],
  ['an IPv6 address', with_(':authority', '[fd00::1]:8080')],
  [
    'OPTIONS *',
    with_(':path', '*').map(header => (header[0] === ':method' ? [':method', 'OPTIONS'] : header)),
  ],
  ['an empty value', [...GET, ['x-empty', '']]],
  ['a value with bytes beyond ASCII, blanks and tabs within', [...GET, ['x-name', 'j\xf6rg \t b']]],
  ['a content-length', [...GET, ['content-length', '0']]],
  [
    'a CONNECT',
    [
      [':method', 'CONNECT'],
      [':authority', '10.0.0.7:8080'],
    ],
  ],
  ['an extended CONNECT', [...with_(':method', 'CONNECT'), [':protocol', 'websocket']]],
]

for (const [what, headers] of SOUND) {
  t.test(`${what} is well-formed`, async t => {
    t.doesNotThrow(() => readRequest(headers, 1))
  })
}

const MALFORMED: readonly (readonly [what: string, headers: readonly Header[]])[] = [
  ['no pseudo-header fields', [['accept', '*/*']]],
  ['an empty list', []],
  ['no :method', without(':method')],
  ['no :scheme', without(':scheme')],
  ['no :path', without(':path')],
  ['neither :authority nor host', without(':authority')],
  ['an empty :path', with_(':path', '')],
  ['a :path that is a URL', with_(':path', 'http://shop/')],
  ['a :path with a blank', with_(':path', '/a b')],
  ['a :path with a fragment', with_(':path', '/a#b')],
  ['a :path with a byte beyond ASCII', with_(':path', '/\xe4')],
  ['* for another method than OPTIONS', with_(':path', '*')],
  ['a scheme that is not http', with_(':scheme', 'ftp')],
  ['a method with a blank', with_(':method', 'GET /')],
  ['an empty method', with_(':method', '')],
  ['user information in :authority', with_(':authority', 'me@shop')],
  ['an empty :authority', with_(':authority', '')],
  ['a path in :authority', with_(':authority', 'shop/x')],
  ['a port that is no number', with_(':authority', 'shop:x')],
  ['a pseudo-header field twice', [...GET, [':path', '/other']]],
  ['an unknown pseudo-header field', [...GET, [':version', '2']]],
  ['a response’s pseudo-header field', [...GET, [':status', '200']]],
  ['a pseudo-header field behind a field', [...GET, ['accept', '*/*'], [':path', '/other']]],
  [':protocol without CONNECT', [...GET, [':protocol', 'websocket']]],
  [
    'a CONNECT with :path',
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      [':path', '/'],
    ],
  ],
  [
    'a CONNECT with :scheme',
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
      [':scheme', 'http'],
    ],
  ],
  [
    'a CONNECT without :authority',
    [
      [':method', 'CONNECT'],
      ['host', 'a:1'],
    ],
  ],
  [
    'an extended CONNECT without :path',
    [
      ...without(':path').map(
        (header): Header => (header[0] === ':method' ? [':method', 'CONNECT'] : header),
      ),
      [':protocol', 'websocket'],
    ],
  ],
  ['upper case in a name', [...GET, ['Accept', '*/*']]],
  ['an empty name', [...GET, ['', 'x']]],
  ['a blank in a name', [...GET, ['a b', 'x']]],
  ['a colon in a name', [...GET, ['a:b', 'x']]],
  ['a line feed in a name', [...GET, ['a\nb', 'x']]],
  ['NUL in a value', [...GET, ['a', 'x\0y']]],
  ['CR in a value', [...GET, ['a', 'x\ry']]],
  ['LF in a value', [...GET, ['a', 'x\ny']]],
  ['DEL in a value', [...GET, ['a', 'x\x7f']]],
  ['a blank before a value', [...GET, ['a', ' x']]],
  ['a tab behind a value', [...GET, ['a', 'x\t']]],
  ['a value that is a blank', [...GET, ['a', ' ']]],
  ['connection', [...GET, ['connection', 'close']]],
  ['keep-alive', [...GET, ['keep-alive', 'timeout=5']]],
  ['proxy-connection', [...GET, ['proxy-connection', 'close']]],
  ['transfer-encoding', [...GET, ['transfer-encoding', 'chunked']]],
  ['upgrade', [...GET, ['upgrade', 'h2c']]],
  ['te for something else than trailers', [...GET, ['te', 'gzip']]],
  ['a host that is not :authority', [...GET, ['host', 'other']]],
  ['two hosts', [...without(':authority'), ['host', 'a'], ['host', 'a']]],
  ['a content-length that is no number', [...GET, ['content-length', '+1']]],
  ['two content-lengths', [...GET, ['content-length', '1'], ['content-length', '1']]],
  ['a content-length with a leading zero', [...GET, ['content-length', '01']]],
  ['a list of content-lengths', [...GET, ['content-length', '1, 1']]],
]

for (const [what, headers] of MALFORMED) {
  t.test(`${what} is malformed`, async t => refused(t, () => readRequest(headers, 3)))
}

t.test('a response is read, and has exactly a status', async t => {
  t.same(
    readResponse(
      [
        [':status', '103'],
        ['link', 'x'],
      ],
      1,
    ),
    { status: 103, fields: [['link', 'x']] },
  )
  refused(t, () => readResponse([], 3))
  for (const status of ['20', '101', '600', ' 200']) refused(t, () => readResponse([[':status', status]], 3))
  refused(t, () =>
    readResponse(
      [
        [':status', '200'],
        [':path', '/'],
      ],
      3,
    ),
  )
  refused(t, () =>
    readResponse(
      [
        [':status', '200'],
        [':status', '200'],
      ],
      3,
    ),
  )
  refused(t, () =>
    readResponse(
      [
        [':status', '200'],
        ['connection', 'close'],
      ],
      3,
    ),
  )
})

t.test('trailers have no pseudo-header fields', async t => {
  t.doesNotThrow(() => checkTrailers([['grpc-status', '0']], 3))
  refused(t, () => checkTrailers([[':status', '200']], 3))
  refused(t, () => checkTrailers([['grpc-message', 'a\r\nb']], 3))
})

function refused(t: Test, act: () => unknown): void {
  try {
    act()
    t.fail('it was taken')
  } catch (thrown) {
    t.ok(thrown instanceof Http2Error && thrown.code === ErrorCode.PROTOCOL_ERROR && thrown.streamId === 3)
  }
}

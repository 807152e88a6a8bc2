// What no honest peer sends, frame by frame: who is told what, and that the application sees none of it.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import { ErrorCode } from '../../../../../proxy/http2/errors.ts'
import {
  Flag,
  FrameType,
  headersFrames,
  pingFrame,
  rstStreamFrame,
  Setting,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
  writeFrameHeader,
} from '../../../../../proxy/http2/frames.ts'
import type { Header } from '../../../../../proxy/http2/header.ts'
import { dataFrame, OPENING, priorityFrame } from '../../../../support/http2-frames.ts'
import {
  GET,
  type Http2InMemory,
  http2InMemory,
  POST,
  type Received,
} from '../../../../support/http2-in-memory.ts'

const { PROTOCOL_ERROR, STREAM_CLOSED, ENHANCE_YOUR_CALM, NO_ERROR, REFUSED_STREAM, CANCEL, INTERNAL_ERROR } =
  ErrorCode
const OPAQUE = Buffer.from('12345678')

const refusedWith = (code: string, status = '400', id = 1): Received => [
  'headers',
  id,
  [
    [':status', status],
    ['postern-code', code],
    ['content-length', '0'],
  ],
  true,
]

const MALFORMED: readonly (readonly [what: string, headers: readonly Header[], code?: string])[] = [
  ['a line feed in a value', [...GET, ['x', 'a\nb']]],
  ['upper case in a name', [...GET, ['X-Name', 'a']]],
  ['transfer-encoding', [...GET, ['transfer-encoding', 'chunked']]],
  ['a lookalike of transfer-encoding', [...GET, ['transfer_encoding', 'chunked']]],
  ['a lookalike of content-length', [...GET, ['content_length', '3']]],
  ['a lookalike of host', [...GET, ['host', 'shop'], ['content.length', '3']]],
  ['a host that is not :authority', [...GET, ['host', 'other']]],
  ['a method in lower case', [[':method', 'get'], ...GET.slice(1)]],
  ['an authority that is no host', [...GET.slice(0, 2), [':authority', 'a%2eb'], [':path', '/']]],
  ['a path above the root', [...GET.slice(0, 3), [':path', '/../etc']]],
  ['an encoded slash', [...GET.slice(0, 3), [':path', '/a%2fb']]],
  [
    'a CONNECT',
    [
      [':method', 'CONNECT'],
      [':authority', 'a:1'],
    ],
    'PSTN_HTTP_UPGRADE',
  ],
  [
    'an extended CONNECT that was not offered',
    [[':method', 'CONNECT'], [':protocol', 'websocket'], ...GET.slice(1)],
    'PSTN_HTTP_UPGRADE',
  ],
]

for (const [what, headers, code = 'PSTN_HTTP_MALFORMED'] of MALFORMED) {
  t.test(`${what} is answered with 400, and the connection goes on`, async t => {
    const gate = http2InMemory()
    gate.caller.send(gate.request(1, headers, true))
    t.same(gate.seenByCaller(), [refusedWith(code)])
    t.same(gate.seenByApplication(), [])
    t.match(gate.outcomes, [{ request: undefined, status: 400, refusal: { code } }])
    gate.caller.send(gate.request(3, GET, true))
    t.same(gate.seenByApplication(), [['headers', 3, GET, true]])
  })
}

t.test('lists beyond the limits are 431', async t => {
  const gate = http2InMemory()
  gate.caller.send(gate.request(1, [...GET, ['x', 'a'.repeat(40_000)]], true))
  gate.caller.send(gate.request(3, [...GET, ...Array.from({ length: 100 }, (): Header => ['x', 'a'])], true))
  t.same(gate.seenByCaller(), [
    refusedWith('PSTN_HTTP_LIMIT', '431', 1),
    refusedWith('PSTN_HTTP_LIMIT', '431', 3),
  ])
  t.same(gate.seenByApplication(), [])
})

t.test('a path beyond 8 KiB is 414, its query included', async t => {
  const gate = http2InMemory()
  const path = (length: number): Header => [':path', `/?${'a'.repeat(length - 2)}`]
  gate.caller.send(gate.request(1, [...GET.slice(0, 3), path(8 * 1024)], true))
  t.equal(gate.seenByApplication().length, 1)
  gate.caller.send(gate.request(3, [...GET.slice(0, 3), path(8 * 1024 + 1)], true))
  t.same(gate.seenByCaller(), [refusedWith('PSTN_HTTP_LIMIT', '414', 3)])
  t.equal(gate.seenByApplication().length, 0)
})

t.test('of a request that lives no head is kept', async t => {
  const gate = http2InMemory()
  const ask = (id: number) => {
    gate.caller.send(gate.request(id, [...POST, ['x', `${id}`.padStart(30_000, 'x')]]))
    gate.seenByApplication()
  }
  ask(1)
  const before = heapUsed()
  for (let id = 3; id < 1_003; id += 2) ask(id)
  const grown = heapUsed() - before
  t.equal(gate.live.size, 501)
  t.ok(grown < 5_000_000, `${grown} bytes for 500 heads of 30,000`)
})

t.test('a denied request with a body: the answer, an end, and the body’s window back', async t => {
  const gate = http2InMemory({ allow: () => false })
  gate.caller.send(gate.request(1, POST))
  t.same(gate.seenByCaller(), [refusedWith('PSTN_POLICY_DENIED', '403'), ['rstStream', 1, NO_ERROR]])
  gate.caller.send(
    Buffer.concat([dataFrame(1, Buffer.alloc(100), false), dataFrame(1, Buffer.alloc(20), false)]),
  )
  t.same(gate.seenByCaller(), [['windowUpdate', 0, 120]])
  gate.caller.send(gate.request(1, [['x-trailer', 'late']], true))
  t.same([gate.seenByCaller(), gate.seenByApplication()], [[], []])
  gate.caller.send(dataFrame(1, OPAQUE, false))
  await isOver(t, gate, STREAM_CLOSED, 'PSTN_HTTP_MALFORMED')
})

t.test(
  'frames that were on their way when their stream was cut off are no error, however many streams are',
  async t => {
    const gate = http2InMemory({ allow: () => false })
    for (let n = 0; n < 1_500; n += 1) gate.caller.send(gate.request(2 * n + 1, POST))
    gate.seenByCaller()
    for (let n = 0; n < 1_500; n += 1) gate.caller.send(dataFrame(2 * n + 1, OPAQUE, true))
    t.same(gate.seenByCaller().length, 1_500, 'each gives its window back')
  },
)

t.test('an answer of ours waits for the application’s SETTINGS, which a caller must get first', async t => {
  const gate = http2InMemory({ opened: false, allow: () => false })
  gate.caller.send(Buffer.concat([OPENING, gate.request(1, GET, true)]))
  t.same(gate.seenByCaller(), [])
  gate.application.send(settingsFrame([[Setting.initialWindowSize, 70_000]]))
  t.match(gate.seenByCaller(), [['settings'], refusedWith('PSTN_POLICY_DENIED', '403')])
})

t.test('SETTINGS pass with what the gate can bear, and header tables are its own', async t => {
  const gate = http2InMemory({ opened: false })
  const tooMuch = [
    [Setting.headerTableSize, 0],
    [Setting.maxFrameSize, 16_777_215],
    [Setting.initialWindowSize, 1_000_000],
    [0x99, 1],
  ] as const
  gate.caller.send(
    Buffer.concat([OPENING.subarray(0, 24), settingsFrame([...tooMuch, [Setting.enablePush, 1]])]),
  )
  t.same(gate.seenByApplication(), [['settings', 6, 65_536, 5, 65_536, 4, 1_000_000, 2, 0]])
  gate.application.send(
    settingsFrame([
      ...tooMuch,
      [Setting.maxConcurrentStreams, 1_000_000],
      [Setting.enableConnectProtocol, 1],
    ]),
  )
  t.same(gate.seenByCaller(), [['settings', 6, 32_768, 5, 65_536, 4, 1_000_000, 3, 2_000, 8, 1]])
  gate.caller.send(settingsAckFrame())
  gate.caller.send(gate.request(1, GET, true))
  gate.application.send(settingsAckFrame())
  gate.application.send(
    gate.answer(
      1,
      [
        [':status', '200'],
        ['server', 'x'],
      ],
      true,
    ),
  )
  t.same(
    gate.application.written[1]?.toString('hex', 9, 10),
    '20',
    'the table that the application wants to be empty is',
  )
  t.same(gate.caller.written.at(-1)?.toString('hex', 9, 10), '20', 'and that of the caller')
})

t.test('frames may be as long as the application allows, and the gate', async t => {
  const gate = http2InMemory({ opened: false })
  gate.caller.send(OPENING)
  gate.application.send(settingsFrame([[Setting.maxFrameSize, 1_000_000]]))
  gate.caller.send(Buffer.concat([gate.request(1, POST), dataFrame(1, Buffer.alloc(65_536), false)]))
  t.ok(gate.application.written.reduce((sum, { length }) => sum + length, 0) > 65_536)
  gate.caller.send(dataFrame(1, Buffer.alloc(65_537), false))
  t.match(gate.seenByCaller().at(-1), ['goaway', 1, ErrorCode.FRAME_SIZE_ERROR])
})

t.test('padding is forwarded, since it counts in windows', async t => {
  const gate = http2InMemory()
  const padded = dataFrame(1, Buffer.from('\x03body\0\0\0', 'latin1'), true)
  padded[4] = Flag.padded | Flag.endStream
  gate.caller.send(Buffer.concat([gate.request(1, POST), padded]))
  t.same(gate.seenByApplication().slice(1), [['data', 1, 'body', 8, true]])
})

t.test('content that is not as long as it was said to be is cut off on both sides', async t => {
  const length: readonly Header[] = [...POST, ['content-length', '5']]
  const cases = [
    [dataFrame(1, Buffer.from('123456'), false)],
    [dataFrame(1, Buffer.from('1234'), true)],
    [dataFrame(1, Buffer.from('123'), false), dataFrame(1, Buffer.from('456'), true)],
  ]
  for (const frames of cases) {
    const gate = http2InMemory()
    gate.caller.send(Buffer.concat([gate.request(1, length), ...frames]))
    t.same(gate.seenByApplication().at(-1), ['rstStream', 1, PROTOCOL_ERROR])
    t.match(gate.seenByCaller(), [
      ['rstStream', 1, PROTOCOL_ERROR],
      ['windowUpdate', 0],
    ])
    t.match(gate.outcomes, [{ status: 0, refusal: { code: 'PSTN_HTTP_MALFORMED' } }])
  }
  const gate = http2InMemory()
  gate.caller.send(Buffer.concat([gate.request(1, length), dataFrame(1, Buffer.from('12345'), true)]))
  t.same(gate.seenByApplication().at(-1), ['data', 1, '12345', 5, true], 'the positive control')
})

t.test('trailers that are a head in disguise are cut off', async t => {
  for (const trailer of [
    [':path', '/admin'],
    ['host', 'other'],
    ['x-forwarded-client-cert', 'x'],
    ['content_length', '9'],
  ] as const) {
    const gate = http2InMemory()
    gate.caller.send(Buffer.concat([gate.request(1, POST), gate.request(1, [trailer], true)]))
    t.same(gate.seenByApplication().slice(1), [['rstStream', 1, PROTOCOL_ERROR]], trailer[0])
  }
  const gate = http2InMemory()
  gate.caller.send(Buffer.concat([gate.request(1, POST), gate.request(1, [['x', 'y']], false)]))
  t.same(gate.seenByApplication().slice(1), [['rstStream', 1, PROTOCOL_ERROR]], 'a second head')
})

t.test('a stream beyond the limit is refused in a way that it may be sent again', async t => {
  const gate = http2InMemory()
  for (let n = 0; n < 2_000; n += 1) gate.caller.send(gate.request(2 * n + 1, GET, true))
  t.equal(gate.seenByApplication().length, 2_000)
  gate.caller.send(gate.request(4_001, GET, true))
  t.same(gate.seenByCaller(), [['rstStream', 4_001, REFUSED_STREAM]])
  gate.application.send(gate.answer(1, [[':status', '204']], true))
  gate.caller.send(gate.request(4_003, GET, true))
  t.same(gate.seenByApplication(), [['headers', 4_003, GET, true]])
})

t.test('what the application has said it will not serve is not forwarded', async t => {
  const gate = http2InMemory()
  gate.caller.send(Buffer.concat([gate.request(1, POST), gate.request(3, POST)]))
  gate.application.send(Buffer.from('0000080700000000000000000100000000', 'hex'))
  gate.caller.send(Buffer.concat([dataFrame(3, OPAQUE, true), gate.request(5, GET, true)]))
  t.same(gate.seenByCaller(), [
    ['goaway', 1, NO_ERROR, ''],
    ['rstStream', 5, REFUSED_STREAM],
    ['windowUpdate', 0, 8],
  ])
  gate.caller.send(dataFrame(1, OPAQUE, true))
  t.same(gate.seenByApplication().slice(2), [['data', 1, '12345678', 8, true]])
})

const header = (type: number, length: number, streamId: number) => {
  const frame = Buffer.alloc(9)
  writeFrameHeader(frame, 0, length, type, 0, streamId)
  return frame
}
const many = (count: number, frame: (n: number) => Buffer) =>
  Buffer.concat(Array.from({ length: count }, (_, n) => frame(n)))

const FATAL: readonly (readonly [
  what: string,
  code: ErrorCode,
  told: string,
  frames: (gate: Http2InMemory) => Buffer,
])[] = [
  [
    'DATA on a stream that was not opened',
    PROTOCOL_ERROR,
    'PSTN_HTTP_MALFORMED',
    () => dataFrame(1, OPAQUE, false),
  ],
  [
    'HEADERS of a stream that the caller has ended',
    STREAM_CLOSED,
    'PSTN_HTTP_MALFORMED',
    gate =>
      Buffer.concat([gate.request(1, GET, true), rstStreamFrame(1, CANCEL), gate.request(1, GET, true)]),
  ],
  [
    'a frame longer than the application allows',
    ErrorCode.FRAME_SIZE_ERROR,
    'PSTN_HTTP_MALFORMED',
    gate => Buffer.concat([gate.request(1, POST), dataFrame(1, Buffer.alloc(16_385), false)]),
  ],
  [
    'a request with a number below the last',
    STREAM_CLOSED,
    'PSTN_HTTP_MALFORMED',
    gate => Buffer.concat([gate.request(5, GET, true), gate.request(3, GET, true)]),
  ],
  [
    'RST_STREAM of a stream that was not opened',
    PROTOCOL_ERROR,
    'PSTN_HTTP_MALFORMED',
    () => rstStreamFrame(1, CANCEL),
  ],
  [
    'WINDOW_UPDATE of a stream that was not opened',
    PROTOCOL_ERROR,
    'PSTN_HTTP_MALFORMED',
    () => windowUpdateFrame(1, 1),
  ],
  [
    'an acknowledgement of nothing',
    PROTOCOL_ERROR,
    'PSTN_HTTP_MALFORMED',
    () => Buffer.concat([settingsAckFrame(), settingsAckFrame()]),
  ],
  [
    'a broken header block',
    ErrorCode.COMPRESSION_ERROR,
    'PSTN_HTTP_MALFORMED',
    () => headersFrames(1, Buffer.from([0x80]), true),
  ],
  [
    'CONTINUATION without end',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    () =>
      Buffer.concat([header(FrameType.headers, 0, 1), many(20, () => header(FrameType.continuation, 0, 1))]),
  ],
  [
    'requests that are cut off at once (CVE-2023-44487)',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    gate =>
      many(10_001, n =>
        Buffer.concat([gate.request(2 * n + 1, GET, true), rstStreamFrame(2 * n + 1, CANCEL)]),
      ),
  ],
  [
    'requests that make the gate cut them off',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    gate =>
      many(10_001, n =>
        Buffer.concat([gate.request(2 * n + 1, GET, true), dataFrame(2 * n + 1, OPAQUE, true)]),
      ),
  ],
  [
    'PING without end',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    () => many(10_001, () => pingFrame(OPAQUE, false)),
  ],
  [
    'PRIORITY without end',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    () => many(10_001, () => priorityFrame(9, Buffer.from('0000000010', 'hex'))),
  ],
  [
    'WINDOW_UPDATE without end',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    () => many(10_001, () => windowUpdateFrame(0, 1)),
  ],
  [
    'empty DATA without end',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    gate => Buffer.concat([gate.request(1, POST), many(10_001, () => dataFrame(1, Buffer.alloc(0), false))]),
  ],
  [
    'unknown frames without end',
    ENHANCE_YOUR_CALM,
    'PSTN_HTTP_LIMIT',
    () => many(10_001, () => header(0x77, 0, 0)),
  ],
  ['SETTINGS without waiting', ENHANCE_YOUR_CALM, 'PSTN_HTTP_LIMIT', () => many(17, () => settingsFrame([]))],
]

for (const [what, code, told, frames] of FATAL) {
  t.test(`${what} ends the connection with GOAWAY`, async t => {
    const gate = http2InMemory()
    gate.caller.send(frames(gate))
    await isOver(t, gate, code, told)
  })
}

t.test('requests that are cut off now and then are nothing', async t => {
  const gate = http2InMemory()
  for (let n = 0; n < 30_000; n += 1) {
    gate.clock.now += 1
    gate.caller.send(Buffer.concat([gate.request(2 * n + 1, GET, true), rstStreamFrame(2 * n + 1, CANCEL)]))
  }
  t.same(gate.seenByCaller(), [])
  t.equal(gate.outcomes.length, 30_000)
})

t.test('a caller that speaks HTTP/1 is told in HTTP/2, and the application hears nothing', async t => {
  const gate = http2InMemory({ opened: false })
  gate.caller.send('GET / HTTP/1.1\r\nhost: shop\r\n\r\n')
  t.match(gate.seenByCaller(), [['settings'], ['goaway', 0, PROTOCOL_ERROR, 'PSTN_HTTP_MALFORMED']])
  t.equal(gate.application.written.length, 0)
  t.equal(gate.application.wasReset, true)
})

t.test('a head that does not become whole in time ends the connection', async t => {
  for (const begun of [
    Buffer.alloc(0),
    OPENING.subarray(0, 20),
    Buffer.concat([OPENING, header(FrameType.headers, 0, 1)]),
  ]) {
    const gate = http2InMemory({ opened: false, headTimeoutMs: 20 })
    if (begun.length > 0) gate.caller.send(begun)
    await new Promise(resolve => setTimeout(resolve, 60))
    t.match(gate.seenByCaller(), [['settings'], ['goaway', 0, ENHANCE_YOUR_CALM, 'PSTN_HTTP_TIMEOUT']])
  }
  const idle = http2InMemory({ headTimeoutMs: 20 })
  idle.caller.send(Buffer.concat([idle.request(1, POST), dataFrame(1, OPAQUE, false).subarray(0, 12)]))
  await new Promise(resolve => setTimeout(resolve, 60))
  t.same(idle.seenByCaller(), [], 'idle connections and slow bodies may be')
})

const ANSWERS: readonly (readonly [
  what: string,
  seen: Received[],
  frames: (gate: Http2InMemory) => Buffer,
])[] = [
  ['without a status', [refusedWith('PSTN_HTTP_ANSWER', '502')], gate => gate.answer(1, [['x', 'y']])],
  [
    'with a line feed',
    [refusedWith('PSTN_HTTP_ANSWER', '502')],
    gate =>
      gate.answer(1, [
        [':status', '200'],
        ['x', 'a\nb'],
      ]),
  ],
  ['of content alone', [refusedWith('PSTN_HTTP_ANSWER', '502')], () => dataFrame(1, OPAQUE, false)],
  [
    'of an interim answer alone',
    [refusedWith('PSTN_HTTP_ANSWER', '502')],
    gate => gate.answer(1, [[':status', '103']], true),
  ],
  [
    'beyond the limit',
    [refusedWith('PSTN_HTTP_ANSWER', '502')],
    gate =>
      gate.answer(1, [
        [':status', '200'],
        ['x', 'y'.repeat(70_000)],
      ]),
  ],
  [
    'with a second head',
    [
      ['headers', 1, [[':status', '200']], false],
      ['rstStream', 1, INTERNAL_ERROR],
    ],
    gate => Buffer.concat([gate.answer(1, [[':status', '200']]), gate.answer(1, [[':status', '200']])]),
  ],
]

for (const [what, seen, frames] of ANSWERS) {
  t.test(`an answer ${what} does not pass, and its stream alone ends`, async t => {
    const gate = http2InMemory()
    gate.caller.send(gate.request(1, GET, true))
    gate.seenByApplication()
    gate.application.send(frames(gate))
    t.same(gate.seenByCaller(), seen)
    t.same(gate.seenByApplication().slice(0, 1), [['rstStream', 1, CANCEL]])
    t.match(gate.outcomes, [{ refusal: { code: 'PSTN_HTTP_ANSWER' } }])
    t.equal(gate.live.size, 0)
  })
}

t.test('interim answers pass', async t => {
  const gate = http2InMemory()
  gate.caller.send(gate.request(1, POST))
  gate.application.send(
    Buffer.concat([gate.answer(1, [[':status', '100']]), gate.answer(1, [[':status', '200']], true)]),
  )
  t.same(gate.seenByCaller(), [
    ['headers', 1, [[':status', '100']], false],
    ['headers', 1, [[':status', '200']], true],
  ])
})

t.test('an application that does not speak HTTP/2 ends the connection with its code', async t => {
  for (const said of ['HTTP/1.1 400 Bad Request\r\n\r\n', '']) {
    const gate = http2InMemory({ opened: false })
    gate.caller.send(Buffer.concat([OPENING, gate.request(1, GET, true)]))
    if (said === '') gate.application.sendEnd()
    else gate.application.send(said)
    t.match(gate.seenByCaller(), [['settings'], ['goaway', 1, INTERNAL_ERROR, 'PSTN_HTTP_ANSWER']])
    t.match(gate.outcomes, [{ request: { path: '/' }, refusal: { code: 'PSTN_HTTP_ANSWER' } }])
  }
})

t.test('a caller that does not read our answers is not read from', async t => {
  const gate = http2InMemory({ allow: () => false })
  gate.caller.accepts = false
  gate.caller.send(gate.request(1, GET, true))
  t.equal(gate.caller.paused, true)
  gate.caller.drain()
  t.equal(gate.caller.paused, false)
})

t.test('a caller that is slow to read answers of the application may go on sending', async t => {
  const gate = http2InMemory()
  gate.caller.send(gate.request(1, POST))
  gate.caller.accepts = false
  gate.application.send(gate.answer(1, [[':status', '200']]))
  t.same([gate.caller.paused, gate.application.paused], [false, true])
  gate.caller.drain()
  t.same([gate.caller.paused, gate.application.paused], [false, false])
  gate.application.accepts = false
  gate.caller.send(dataFrame(1, OPAQUE, false))
  t.same([gate.caller.paused, gate.application.paused], [true, false])
  gate.application.drain()
  t.equal(gate.caller.paused, false)
})

function heapUsed(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

async function isOver(t: Test, gate: Http2InMemory, code: ErrorCode, told: string): Promise<void> {
  t.match(gate.seenByCaller().at(-1), ['goaway', Number, code, told])
  t.equal(gate.application.wasReset, true)
  t.equal(gate.caller.ended, true, 'in order, so that the reason arrives')
  t.equal(gate.live.size, 0)
  t.match(gate.outcomes.at(-1), { refusal: { code: told } })
  gate.caller.sendEnd()
  t.match(await gate.result, { outcome: 'aborted', reason: { code: told } })
}

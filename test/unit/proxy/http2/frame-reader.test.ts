import t from 'tap'
import { ErrorCode, Http2Error } from '../../../../proxy/http2/errors.ts'
import { FrameReader } from '../../../../proxy/http2/frame-reader.ts'
import {
  CONNECTION_PREFACE,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  goawayFrame,
  headersFrames,
  pingFrame,
  rstStreamFrame,
  Setting,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
  writeFrameHeader,
} from '../../../../proxy/http2/frames.ts'
import {
  dataFrame,
  eventsOf,
  type FrameEvent,
  ignoringFrames,
  OPENING,
  priorityFrame,
  split,
} from '../../../support/http2-frames.ts'

const OPAQUE = Buffer.from('12345678')
const PRIORITY = Buffer.from('0000000010', 'hex')

/** A frame as it is told to be, right or wrong. */
function frame(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const bytes = typeof payload === 'string' ? Buffer.from(payload, 'hex') : payload
  const header = Buffer.alloc(FRAME_HEADER_BYTES)
  writeFrameHeader(header, 0, bytes.length, type, flags, streamId)
  return Buffer.concat([header, bytes])
}

const {
  data,
  headers,
  priority,
  rstStream,
  settings,
  pushPromise,
  ping,
  goaway,
  windowUpdate,
  continuation,
} = FrameType
const { endStream, endHeaders, padded } = Flag

const CONVERSATION = Buffer.concat([
  CONNECTION_PREFACE,
  settingsFrame([
    [Setting.initialWindowSize, 1_048_576],
    [0xff, 7],
  ]),
  settingsAckFrame(),
  headersFrames(1, Buffer.from('a block'), false),
  dataFrame(1, Buffer.from('hello'), false),
  frame(data, padded, 1, '0368657900 0000'.replaceAll(' ', '')),
  frame(data, padded | endStream, 1, '020000'),
  frame(
    headers,
    padded | endHeaders | Flag.priority | endStream,
    3,
    '01 00000001 10 8286 00'.replaceAll(' ', ''),
  ),
  headersFrames(5, Buffer.alloc(40_000, 7), true),
  priorityFrame(9, PRIORITY),
  pingFrame(OPAQUE, false),
  pingFrame(OPAQUE, true),
  windowUpdateFrame(0, 0x7fffffff),
  windowUpdateFrame(1, 1),
  rstStreamFrame(1, ErrorCode.CANCEL),
  frame(0x10, 0xff, 2, 'abcdef'),
  dataFrame(5, Buffer.alloc(0), true),
  goawayFrame(5, ErrorCode.NO_ERROR, Buffer.from('PSTN_DRAINING')),
])

const EVENTS: readonly FrameEvent[] = [
  ['settings', 4, 1_048_576, 0xff, 7],
  ['settingsAck'],
  ['headers', 1, Buffer.from('a block').toString('hex'), false],
  // 5 bytes; 3 with 1 + 3 of padding; 1 + 2 of padding alone.
  ['data', 1, Buffer.from('hellohey').toString('hex'), 15],
  ['end', 1],
  ['headers', 3, '8286', true],
  ['headers', 5, '07'.repeat(40_000), true],
  ['priority', 9, PRIORITY.toString('hex')],
  ['ping', OPAQUE.toString('hex'), false],
  ['ping', OPAQUE.toString('hex'), true],
  ['windowUpdate', 0, 0x7fffffff],
  ['windowUpdate', 1, 1],
  ['rstStream', 1, ErrorCode.CANCEL],
  ['unknown', 0x10],
  ['data', 5, '', 0],
  ['end', 5],
  ['goaway', 5, ErrorCode.NO_ERROR, 'PSTN_DRAINING'],
]

t.test('every kind of frame is read as it was written', async t => {
  t.same(eventsOf([CONVERSATION]), EVENTS)
})

t.test('the same is read wherever the bytes are split', async t => {
  const whole = JSON.stringify(eventsOf([CONVERSATION]))
  const ends = [...CONVERSATION.keys()].filter(
    at => at < 250 || at > CONVERSATION.length - 250 || at % 997 === 0,
  )
  t.same(
    ends.filter(end => JSON.stringify(eventsOf(split(CONVERSATION, [end]))) !== whole),
    [],
  )
  t.equal(JSON.stringify(eventsOf(split(CONVERSATION, [...CONVERSATION.keys()]))), whole, 'byte by byte')
})

t.test('DATA is handed on at once and without a copy', async t => {
  const pieces: Buffer[] = []
  const reader = new FrameReader(
    { ...ignoringFrames, data: (_stream, piece) => pieces.push(piece) },
    { from: 'client', maxFrameSize: 16_384 },
  )
  reader.push(OPENING)
  const bytes = dataFrame(1, Buffer.alloc(10_000, 1), true)
  reader.push(bytes.subarray(0, 1_000))
  t.equal(pieces.length, 1, 'before the frame was whole')
  t.equal(pieces[0]?.buffer, bytes.buffer)
  t.equal(pieces[0]?.length, 1_000 - FRAME_HEADER_BYTES)
})

t.test('nothing is delivered after stop, not even of the same chunk', async t => {
  let pings = 0
  const reader: FrameReader = new FrameReader(
    {
      ...ignoringFrames,
      ping: () => {
        pings += 1
        reader.stop()
      },
    },
    { from: 'client', maxFrameSize: 16_384 },
  )
  reader.push(Buffer.concat([OPENING, pingFrame(OPAQUE, false), pingFrame(OPAQUE, false)]))
  t.equal(pings, 1)
})

t.test('a reader waits until its frame is whole, except for DATA', async t => {
  const reader = new FrameReader(ignoringFrames, { from: 'client', maxFrameSize: 16_384 })
  const states: boolean[] = []
  const push = (bytes: Buffer) => {
    reader.push(bytes)
    states.push(reader.isWaiting)
  }
  t.equal(reader.isWaiting, true, 'for the preface')
  push(OPENING)
  push(frame(headers, 0, 1, '82'))
  push(frame(continuation, endHeaders, 1, '86'))
  push(dataFrame(1, OPAQUE, false).subarray(0, 3))
  push(dataFrame(1, OPAQUE, false).subarray(3, 12))
  push(dataFrame(1, OPAQUE, false).subarray(12))
  push(pingFrame(OPAQUE, false).subarray(0, 12))
  t.same(states, [false, true, false, true, false, false, true])
})

const { PROTOCOL_ERROR, FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR, ENHANCE_YOUR_CALM } = ErrorCode

const REFUSED: readonly (readonly [what: string, code: ErrorCode, bytes: Buffer])[] = [
  ['a frame longer than allowed', FRAME_SIZE_ERROR, dataFrame(1, Buffer.alloc(16_385), false)],
  ['DATA on stream 0', PROTOCOL_ERROR, frame(data, 0, 0)],
  ['DATA on a stream of the server', PROTOCOL_ERROR, frame(data, 0, 2)],
  ['DATA with more padding than payload', PROTOCOL_ERROR, frame(data, padded, 1, '0300')],
  ['padded DATA without a pad length', FRAME_SIZE_ERROR, frame(data, padded, 1)],
  ['HEADERS on stream 0', PROTOCOL_ERROR, frame(headers, endHeaders, 0, '82')],
  ['HEADERS on a stream of the server', PROTOCOL_ERROR, frame(headers, endHeaders, 2, '82')],
  ['HEADERS with more padding than payload', PROTOCOL_ERROR, frame(headers, endHeaders | padded, 1, '0282')],
  [
    'HEADERS with a priority cut off',
    PROTOCOL_ERROR,
    frame(headers, endHeaders | Flag.priority, 1, '00000000'),
  ],
  [
    'HEADERS that depend on themselves',
    PROTOCOL_ERROR,
    frame(headers, endHeaders | Flag.priority, 3, '0000000310'),
  ],
  ['PRIORITY on stream 0', PROTOCOL_ERROR, frame(priority, 0, 0, PRIORITY)],
  ['PRIORITY that depends on itself', PROTOCOL_ERROR, frame(priority, 0, 3, '8000000310')],
  ['RST_STREAM on stream 0', PROTOCOL_ERROR, frame(rstStream, 0, 0, '00000008')],
  ['RST_STREAM of five bytes', FRAME_SIZE_ERROR, frame(rstStream, 0, 1, '0000000800')],
  ['SETTINGS on a stream', PROTOCOL_ERROR, frame(settings, 0, 1)],
  ['SETTINGS of five bytes', FRAME_SIZE_ERROR, frame(settings, 0, 0, '0000000000')],
  ['an acknowledgement with settings', FRAME_SIZE_ERROR, frame(settings, Flag.ack, 0, '000100000000')],
  [
    'SETTINGS that go on and on (CVE-2020-11080)',
    ENHANCE_YOUR_CALM,
    settingsFrame(Array.from({ length: 33 }, () => [Setting.initialWindowSize, 1] as const)),
  ],
  ['ENABLE_PUSH of 2', PROTOCOL_ERROR, settingsFrame([[Setting.enablePush, 2]])],
  [
    'an initial window of 2^31',
    FLOW_CONTROL_ERROR,
    settingsFrame([[Setting.initialWindowSize, 0x8000_0000]]),
  ],
  ['a maximum frame size that is too small', PROTOCOL_ERROR, settingsFrame([[Setting.maxFrameSize, 16_383]])],
  ['a maximum frame size of 2^24', PROTOCOL_ERROR, settingsFrame([[Setting.maxFrameSize, 0x100_0000]])],
  ['ENABLE_CONNECT_PROTOCOL of 2', PROTOCOL_ERROR, settingsFrame([[Setting.enableConnectProtocol, 2]])],
  ['PUSH_PROMISE', PROTOCOL_ERROR, frame(pushPromise, endHeaders, 1, '0000000282')],
  ['PING on a stream', PROTOCOL_ERROR, frame(ping, 0, 1, OPAQUE)],
  ['PING of seven bytes', FRAME_SIZE_ERROR, frame(ping, 0, 0, '00000000000000')],
  ['GOAWAY on a stream', PROTOCOL_ERROR, frame(goaway, 0, 1, '0000000000000000')],
  ['GOAWAY of seven bytes', FRAME_SIZE_ERROR, frame(goaway, 0, 0, '00000000000000')],
  ['WINDOW_UPDATE of 0 for the connection', PROTOCOL_ERROR, windowUpdateFrame(0, 0)],
  ['WINDOW_UPDATE of three bytes', FRAME_SIZE_ERROR, frame(windowUpdate, 0, 0, '000001')],
  ['WINDOW_UPDATE on a stream of the server', PROTOCOL_ERROR, windowUpdateFrame(2, 1)],
  ['CONTINUATION without HEADERS', PROTOCOL_ERROR, frame(continuation, endHeaders, 1, '82')],
  [
    'CONTINUATION behind a block that has ended',
    PROTOCOL_ERROR,
    Buffer.concat([frame(headers, endHeaders, 1, '82'), frame(continuation, endHeaders, 1, '82')]),
  ],
  [
    'another frame within a block',
    PROTOCOL_ERROR,
    Buffer.concat([frame(headers, 0, 1, '82'), pingFrame(OPAQUE, false)]),
  ],
  [
    'an unknown frame within a block',
    PROTOCOL_ERROR,
    Buffer.concat([frame(headers, 0, 1, '82'), frame(0x10, 0, 0, '00')]),
  ],
  [
    'CONTINUATION of another stream',
    PROTOCOL_ERROR,
    Buffer.concat([frame(headers, 0, 1, '82'), frame(continuation, endHeaders, 3, '82')]),
  ],
  [
    'CONTINUATION frames without end (CVE-2024-27316)',
    ENHANCE_YOUR_CALM,
    Buffer.concat([
      frame(headers, 0, 1, '82'),
      ...Array.from({ length: 9 }, () => frame(continuation, 0, 1)),
    ]),
  ],
  ['a block beyond the limit', ENHANCE_YOUR_CALM, headersFrames(1, Buffer.alloc(65_537), false)],
]

for (const [what, code, bytes] of REFUSED) {
  t.test(`${what} is a connection error`, async t => {
    for (const chunks of [[bytes], split(bytes, [...bytes.keys()].slice(0, 60))]) {
      try {
        eventsOf([OPENING, ...chunks])
        t.fail('it was taken')
      } catch (thrown) {
        t.ok(thrown instanceof Http2Error)
        t.match(thrown, { code, streamId: undefined })
      }
    }
  })
}

t.test('errors of one stream are told, and the connection goes on', async t => {
  const bytes = [windowUpdateFrame(1, 0), frame(priority, 0, 3, '00000000'), pingFrame(OPAQUE, false)]
  t.same(eventsOf([OPENING, ...bytes]).slice(1), [
    ['streamError', 1, PROTOCOL_ERROR],
    ['streamError', 3, FRAME_SIZE_ERROR],
    ['ping', OPAQUE.toString('hex'), false],
  ])
})

t.test('a connection begins with the preface and SETTINGS, a server’s with SETTINGS', async t => {
  const refusals = [
    () => eventsOf([Buffer.from('GET / HTTP/1.1\r\n')]),
    () => eventsOf([CONNECTION_PREFACE, pingFrame(OPAQUE, false)]),
    () => eventsOf([CONNECTION_PREFACE, settingsAckFrame()]),
    () => eventsOf([OPENING], { from: 'server' }),
    () => eventsOf([settingsFrame([[Setting.enablePush, 1]])], { from: 'server' }),
  ]
  for (const refusal of refusals) t.throws(refusal, Http2Error)
  t.same(eventsOf([settingsFrame([])], { from: 'server' }), [['settings']])
})

t.test('reserved bits and undefined flags mean nothing', async t => {
  const bytes = pingFrame(OPAQUE, false)
  bytes[4] = 0xfe
  bytes[5] = 0x80
  t.same(eventsOf([OPENING, bytes]).slice(1), [['ping', OPAQUE.toString('hex'), false]])
})

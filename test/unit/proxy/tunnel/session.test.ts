// What a session does with frames, right and wrong ones, told by what it sends. RFC 9113's sections are in the names.
import t from 'tap'
import {
  goawayFrame,
  headersFrames,
  pingFrame,
  rstStreamFrame,
  Setting,
  settingsFrame,
  windowUpdateFrame,
} from '../../../../proxy/http2/frames.ts'
import { writeAnswer, writeConnect } from '../../../../proxy/tunnel/connect-headers.ts'
import { Allowance } from '../../../../proxy/tunnel/flow-control.ts'
import { Held } from '../../../../proxy/tunnel/held.ts'
import { connectionWindow } from '../../../../proxy/tunnel/incoming.ts'
import { Session } from '../../../../proxy/tunnel/session.ts'
import { RATES, RECEIVE, SEND, SETTINGS_TIMEOUT_MS } from '../../../../proxy/tunnel/settings.ts'
import { dataFrame, type FrameEvent, priorityFrame } from '../../../support/http2-frames.ts'
import { memoryPair } from '../../../support/memory-pair.ts'
import { read, sessionWire, type Wire } from '../../../support/session-wire.ts'

const KIB = 1024
const bytes = (length: number, value = 'x') => Buffer.alloc(length, value)

/** A session that has taken the CONNECT of stream 1. */
async function connected(): Promise<Wire> {
  const wire = sessionWire('server')
  wire.send(wire.connect(1))
  await wire.quiet()
  return wire
}

t.test('a session says what it takes, and acknowledges what the peer takes', async t => {
  const wire = sessionWire('server')
  await wire.quiet()
  const [settings, window, ack] = wire.seen
  t.equal(settings?.[0], 'settings')
  t.same(window, ['windowUpdate', 0, connectionWindow(8) - 65_535])
  t.same(ack, ['settingsAck'])
})

const CONNECTION_ERRORS: [name: string, code: string, frames: (wire: Wire) => Buffer[]][] = [
  ['5.1 DATA on an idle stream', 'PROTOCOL_ERROR', () => [dataFrame(3, bytes(1), false)]],
  ['5.1 RST_STREAM on an idle stream', 'PROTOCOL_ERROR', () => [rstStreamFrame(3, 8)]],
  ['5.1 WINDOW_UPDATE on an idle stream', 'PROTOCOL_ERROR', () => [windowUpdateFrame(3, 1)]],
  [
    '5.1 HEADERS on a stream that has ended',
    'STREAM_CLOSED',
    wire => {
      wire.requests[0]?.end()
      return [dataFrame(1, bytes(1), true)]
    },
  ],
  ['5.1.1 a stream that was passed over', 'PROTOCOL_ERROR', wire => [wire.connect(7), wire.connect(5)]],
  [
    '4.3 a header block that does not decode',
    'COMPRESSION_ERROR',
    () => [headersFrames(3, bytes(1, '\xff'), false)],
  ],
  ['6.9.1 a window beyond 2^31-1', 'FLOW_CONTROL_ERROR', () => [windowUpdateFrame(0, 2 ** 31 - 1)]],
  [
    '6.9.2 windows of streams beyond 2^31-1',
    'FLOW_CONTROL_ERROR',
    () => [windowUpdateFrame(1, 2 ** 31 - 1 - 65_535), settingsFrame([[Setting.initialWindowSize, 65_536]])],
  ],
]

for (const [name, code, frames] of CONNECTION_ERRORS) {
  t.test(`${name} ends the connection with ${code}`, async t => {
    const wire = await connected()
    const read1 = wire.requests[0] && read(wire.requests[0])
    wire.send(...frames(wire))
    await wire.quiet()
    if (code === 'STREAM_CLOSED') wire.send(wire.connect(1))
    t.equal((await wire.goaway())?.[2], code)
    t.ok(read1?.closed, 'its streams are over')
    wire.close()
  })
}

const STREAM_ERRORS: [name: string, code: string, frames: (wire: Wire) => Buffer[]][] = [
  [
    '5.1 DATA after END_STREAM',
    'STREAM_CLOSED',
    () => [dataFrame(1, bytes(1), true), dataFrame(1, bytes(1), false)],
  ],
  ['8.5 trailers on a connected stream', 'PROTOCOL_ERROR', wire => [wire.connect(1, true)]],
  [
    '6.9.1 more than the stream’s window',
    'FLOW_CONTROL_ERROR',
    () => Array.from({ length: 5 }, () => dataFrame(1, bytes(16 * KIB), false)),
  ],
  [
    '6.9.1 a window of the stream beyond 2^31-1',
    'FLOW_CONTROL_ERROR',
    () => [windowUpdateFrame(1, 2 ** 31 - 1)],
  ],
  ['6.9 a WINDOW_UPDATE of nothing', 'PROTOCOL_ERROR', () => [windowUpdateFrame(1, 0)]],
]

for (const [name, code, frames] of STREAM_ERRORS) {
  t.test(`${name} ends the stream alone with ${code}`, async t => {
    const wire = await connected()
    const [stream] = wire.requests
    wire.send(...frames(wire), pingFrame(Buffer.from('still up'), false))
    t.ok(await wire.expect('rstStream', 1, code))
    t.ok(wire.seen.some(event => event[0] === 'ping' && event[1] === 'still up'))
    t.equal(stream?.isOver, true)
    wire.close()
  })
}

t.test('frames that may come late are no error', async t => {
  const wire = await connected()
  wire.requests[0]?.reset()
  await wire.quiet()
  wire.send(dataFrame(1, bytes(10), true), windowUpdateFrame(1, 5), rstStreamFrame(1, 8))
  await wire.quiet()
  t.notOk(wire.seen.some(([kind]) => kind === 'goaway'))
  t.equal(wire.seen.filter(([kind]) => kind === 'rstStream').length, 1)
  wire.close()
})

t.test('a stream beyond the limit is refused so that it can be tried elsewhere', async t => {
  const wire = sessionWire('server')
  wire.send(...Array.from({ length: 9 }, (_, index) => wire.connect(2 * index + 1)))
  t.ok(await wire.expect('rstStream', 17, 'REFUSED_STREAM'))
  t.same(wire.limits, ['tunnel_streams'])
  t.equal(wire.requests.length, 8)
  wire.close()
})

t.test('a header list beyond the limit costs its stream, and the next is in step', async t => {
  const wire = sessionWire('server')
  const long = [
    ...writeConnect('a:1', {}),
    ...Array.from({ length: 40 }, (_, n) => [`x-${n}`, 'y'.repeat(500)] as const),
  ]
  wire.send(headersFrames(1, wire.block(long), false), wire.connect(3))
  t.ok(await wire.expect('rstStream', 1, 'ENHANCE_YOUR_CALM'))
  t.same(wire.limits, ['tunnel_headers'])
  t.equal(wire.requests[0]?.id, 3)
  wire.close()
})

const FLOODS: [limit: keyof typeof RATES, frame: (wire: Wire, index: number) => Buffer][] = [
  ['tunnel_pings', () => pingFrame(bytes(8), false)],
  ['tunnel_settings', () => settingsFrame([])],
  ['tunnel_empty_frames', () => dataFrame(1, bytes(0), false)],
  ['tunnel_useless_frames', () => priorityFrame(1, Buffer.from('0000000010', 'hex'))],
  [
    'tunnel_resets',
    (wire, index) => Buffer.concat([wire.connect(2 * index + 3), rstStreamFrame(2 * index + 3, 8)]),
  ],
]

for (const [limit, frame] of FLOODS) {
  t.test(`a flood ends the connection at ${limit}, and says so`, async t => {
    const wire = await connected()
    const { burst } = RATES[limit]
    for (let index = 0; index < burst * 0.9; index += 1) wire.send(frame(wire, index))
    await wire.quiet()
    t.same(wire.limits, [], 'a burst is no flood')
    for (let index = burst; index < burst * 1.5 + 1000; index += 1) wire.send(frame(wire, index))
    t.same((await wire.goaway())?.slice(2), ['ENHANCE_YOUR_CALM', limit])
    t.same(wire.limits, [limit])
    wire.close()
  })
}

t.test('requests that are no CONNECT cost their peer as its faults do', async t => {
  const wire = sessionWire('server', { maxStreams: 100_000 })
  const get = [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', 'a:1'],
    [':path', '/'],
  ] as const
  const { burst } = RATES.tunnel_resets
  for (let index = 0; index < burst * 1.5 + 1000; index += 1)
    wire.send(headersFrames(2 * index + 1, wire.block(get), true))
  t.same((await wire.goaway())?.slice(2), ['ENHANCE_YOUR_CALM', 'tunnel_resets'])
  wire.close()
})

t.test('a peer that makes us answer and does not read waits, and is told all of it later', async t => {
  const held = new Held(() => {}, { tight: Number.POSITIVE_INFINITY, most: Number.POSITIVE_INFINITY })
  const wire = sessionWire('server', { maxStreams: 100_000, held })
  const count = 30_000
  const connects = (from: number) =>
    wire.send(
      ...Array.from({ length: count }, (_, index) => [
        wire.connect(2 * (from + index) + 1),
        dataFrame(2 * (from + index) + 1, bytes(8), true),
      ]).flat(),
    )
  connects(0)
  await wire.quiet()
  t.equal(wire.requests.length, count)
  wire.stick()
  for (const stream of wire.requests) {
    wire.session.streams.answer(stream, writeAnswer(403, 'PSTN_POLICY_DENIED'), true)
    stream.reset()
  }
  await wire.quiet()
  t.same(wire.limits, [], 'nothing has come since')
  connects(count)
  await wire.quiet()
  t.same([...new Set(wire.limits)], ['tunnel_answers'])
  connects(2 * count)
  await wire.quiet()
  const taken = wire.requests.length
  t.ok(taken < 3 * count, `${taken} were looked at`)
  wire.unstick()
  await wire.quiet()
  t.equal(wire.seen.filter(([kind]) => kind === 'rstStream').length, count)
  t.equal(wire.requests.length, 3 * count)
  wire.close()
})

t.test(
  'writers beyond what a session may hold for its peer are held back, which is counted once',
  async t => {
    const wire = await connected()
    const [stream] = wire.requests
    for (let held = 0; held < SEND.unsent; held += 64 * KIB) stream?.write(bytes(64 * KIB))
    await wire.quiet()
    t.same(wire.limits, [])
    for (let more = 0; more < 4; more += 1) t.equal(stream?.write(bytes(64 * KIB)), false)
    t.same(wire.limits, ['tunnel_unsent'])
    wire.close()
  },
)

t.test(
  '6.8 a server gives notice, serves what was on its way, says its last word, and ends with its last stream',
  async t => {
    const wire = await connected()
    wire.session.retire()
    t.ok(await wire.expect('goaway', 2 ** 31 - 1, 'NO_ERROR'))
    wire.send(wire.connect(3))
    await wire.quiet()
    t.equal(wire.requests.length, 2, 'it was on its way')
    wire.send(pingFrame(Buffer.from('retiring'), true))
    t.ok(await wire.expect('goaway', 3, 'NO_ERROR'))
    wire.send(wire.connect(5), wire.connect(7))
    await wire.quiet()
    t.equal(wire.requests.length, 2, 'the peer knows that these are not looked at')
    for (const stream of wire.requests) {
      read(stream)
      stream.end()
    }
    wire.send(dataFrame(1, bytes(1), true))
    await wire.quiet()
    t.notOk(wire.state.closed)
    wire.send(dataFrame(3, bytes(1), true), dataFrame(5, bytes(9), true))
    await wire.quiet()
    t.ok(await wire.expect('data', 3))
    t.ok(wire.seen.every(([kind, last, code]) => kind !== 'goaway' || code === 'NO_ERROR' || last === 0))
  },
)

t.test('a client opens what a peer’s limit allows, and learns what was not looked at', async t => {
  const wire = sessionWire('client')
  wire.send(settingsFrame([[Setting.maxConcurrentStreams, 3]]))
  await wire.quiet()
  const answers: [number, unknown, number][] = []
  const open = () => {
    const stream = wire.session.streams.open(writeConnect('a:1', {}), (answer, code) =>
      answers.push([stream.id, answer?.status, code]),
    )
    return stream
  }
  const streams = [open(), open(), open()]
  t.equal(wire.session.hasRoom, false)
  wire.send(headersFrames(1, wire.block(writeAnswer(200)), false))
  wire.send(goawayFrame(3, 0, Buffer.from('bye')))
  await wire.quiet()
  t.same(answers, [
    [1, 200, 0],
    [5, undefined, 7],
  ])
  t.same(wire.state.goaways, ['bye'])
  t.equal(streams[1]?.isOver, false)
  wire.send(rstStreamFrame(3, 8), rstStreamFrame(1, 8))
  await wire.quiet()
  t.same(answers.at(-1), [3, undefined, 8])
  t.ok(
    wire.seen.some(([kind]) => kind === 'goaway'),
    'the last stream ends a connection that takes no more',
  )
})

t.test('a client takes no answer for a stream that it did not open', async t => {
  const wire = sessionWire('client')
  wire.send(headersFrames(5, wire.block(writeAnswer(200)), false))
  t.ok(await wire.expect('goaway', 0, 'PROTOCOL_ERROR'))
  wire.close()
})

t.test('an answer that ends the stream is an answer and an end', async t => {
  const wire = sessionWire('client')
  const answers: unknown[] = []
  const stream = wire.session.streams.open(writeConnect('a:1', {}), answer => answers.push(answer))
  wire.send(headersFrames(1, wire.block([[':status', '103']]), false))
  wire.send(headersFrames(1, wire.block(writeAnswer(403, 'PSTN_POLICY_DENIED')), true))
  await wire.quiet()
  t.same(answers, [{ status: 403, code: 'PSTN_POLICY_DENIED' }])
  t.ok(stream.remoteEnded)
  wire.close()
})

t.test(
  'a stream that takes more than its window costs its neighbours nothing of the connection’s',
  async t => {
    const wire = sessionWire('server')
    const count = 100
    let sent = 0
    for (let id = 1; id < 2 * count; id += 2) {
      wire.send(wire.connect(id), ...Array.from({ length: 5 }, () => dataFrame(id, bytes(16 * KIB), false)))
      sent += 5 * 16 * KIB
      t.ok(await wire.expect('rstStream', id, 'FLOW_CONTROL_ERROR'))
    }
    const credited = wire.seen
      .filter(([kind, id]) => kind === 'windowUpdate' && id === 0)
      .slice(1)
      .reduce((sum, [, , by]) => sum + Number(by), 0)
    t.ok(sent - credited < RECEIVE.connectionStep, `${credited} of ${sent} bytes`)
    wire.close()
  },
)

t.test('windows: what is sent is what the peer has room for, stream by stream and in sum', async t => {
  const wire = await connected()
  const [stream] = wire.requests
  stream?.write(bytes(200 * KIB))
  await wire.quiet()
  const sent = (): number =>
    wire.seen.reduce((sum, [kind, , length]: FrameEvent) => sum + (kind === 'data' ? Number(length) : 0), 0)
  t.equal(sent(), 65_535)
  wire.send(windowUpdateFrame(0, 1 << 20))
  await wire.quiet()
  t.equal(sent(), 65_535, 'the stream has none left')
  wire.send(windowUpdateFrame(1, 10_000))
  await wire.quiet()
  t.equal(sent(), 75_535)
  wire.send(settingsFrame([[Setting.initialWindowSize, 65_535 - 5_000]]), windowUpdateFrame(1, 5_000))
  await wire.quiet()
  t.equal(sent(), 75_535, 'a smaller window can be negative')
  wire.send(windowUpdateFrame(1, 1))
  await wire.quiet()
  t.equal(sent(), 75_536)
  wire.close()
})

t.test('a writer that was held back is always told when it may go on', async t => {
  const wire = await connected()
  const [stream] = wire.requests
  if (!stream) throw new Error('no request')
  let drained = 0
  stream.open({
    data: () => {},
    end: () => {},
    drain: () => {
      drained += 1
    },
    closed: () => {},
  })
  t.equal(stream.write(bytes(100_000)), false)
  const grant = async (by: number) => {
    wire.send(windowUpdateFrame(0, by), windowUpdateFrame(1, by))
    await wire.quiet()
  }
  await grant(100_000 - 65_535 - 20_000)
  t.equal(drained, 0)
  t.equal(stream.write(bytes(1)), false, 'less than it was, and not yet little')
  await grant(20_001)
  t.equal(drained, 1)
  t.equal(stream.write(bytes(1)), true)
  wire.close()
})

t.test('streams that stall hold what was granted, and keep nothing from their neighbour', async t => {
  const maxStreams = 300
  const wire = sessionWire('server', { maxStreams })
  for (let index = 0; index < maxStreams; index += 1) wire.send(wire.connect(2 * index + 1))
  await wire.quiet()
  const [busy, ...stalled] = wire.requests
  const granted = new Map<number, number>()
  const fill = (id: number) => {
    const left = granted.get(id) ?? RECEIVE.streamWindow
    for (let sent = 0; sent < left; sent += 16 * KIB)
      wire.send(dataFrame(id, bytes(Math.min(16 * KIB, left - sent)), false))
    granted.set(id, 0)
  }
  for (const stream of stalled) {
    stream.open({ data: () => stream.pause(), end: () => {}, drain: () => {}, closed: () => {} })
    fill(stream.id)
  }
  await wire.quiet()
  t.notOk(
    wire.seen.some(([kind, id]) => kind === 'windowUpdate' && id !== 0),
    'who stalls is granted no more',
  )
  const { bytes: none } = busy ? read(busy) : { bytes: 0 }
  t.equal(none, 0)
  let sent = 0
  let window: number = RECEIVE.streamWindow
  for (let round = 0; round < 200 && busy; round += 1) {
    const before = wire.seen.length
    for (let left = window; left > 0; left -= 16 * KIB)
      wire.send(dataFrame(busy.id, bytes(Math.min(16 * KIB, left)), false))
    sent += window
    await wire.quiet()
    window = wire.seen
      .slice(before)
      .reduce((sum, [kind, id, by]) => sum + (kind === 'windowUpdate' && id === busy.id ? Number(by) : 0), 0)
    if (window === 0) t.fail(`the neighbour starved after ${sent} bytes`)
  }
  t.ok(sent > 32 * RECEIVE.streamWindow)
  t.notOk(wire.seen.some(([kind]) => kind === 'goaway'))
  wire.close()
})

t.test(
  'a reader that pauses is delivered nothing, and the bytes that it was given are credited when it goes on',
  async t => {
    const wire = await connected()
    const [stream] = wire.requests
    if (!stream) throw new Error('no request')
    let got = 0
    stream.open({
      data: chunk => {
        got += chunk.length
        stream.pause()
      },
      end: () => t.fail('ended'),
      drain: () => {},
      closed: () => {},
    })
    wire.send(
      dataFrame(1, bytes(16 * KIB), false),
      dataFrame(1, bytes(16 * KIB), false),
      dataFrame(1, bytes(16 * KIB), false),
    )
    await wire.quiet()
    t.equal(got, 16 * KIB)
    stream.resume()
    t.equal(got, 32 * KIB)
    t.equal(await wire.expect('windowUpdate', 1), undefined)
    stream.resume()
    t.ok(await wire.expect('windowUpdate', 1))
    wire.close()
  },
)

t.test('6.5.3 a peer that does not acknowledge our SETTINGS is left', { timeout: 30_000 }, async t => {
  const [ours, theirs] = memoryPair()
  const closed = Promise.withResolvers<void>()
  new Session({
    role: 'server',
    socket: ours,
    maxStreams: 1,
    growth: new Allowance(0),
    held: new Held(),
    onRequest: () => {},
    onLimit: () => {},
    onClose: closed.resolve,
  })
  let heard = ''
  theirs.on('data', chunk => {
    heard += chunk.toString('latin1')
  })
  // The session's timers keep no process alive.
  const waiting = setTimeout(() => {}, 2 * SETTINGS_TIMEOUT_MS)
  await closed.promise
  clearTimeout(waiting)
  t.match(heard, 'no SETTINGS ACK')
})

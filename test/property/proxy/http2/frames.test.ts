// Mutated connections: whatever bytes come, a reader with its decoder ends with events or with an Http2Error, in memory
// and time in proportion to what came. `POSTERN_FUZZ_SEED` and `POSTERN_FUZZ_COUNT` choose the mutants.
import fc from 'fast-check'
import t from 'tap'
import { ErrorCode, Http2Error } from '../../../../proxy/http2/errors.ts'
import { readRequest } from '../../../../proxy/http2/fields.ts'
import { FrameReader } from '../../../../proxy/http2/frame-reader.ts'
import {
  goawayFrame,
  headersFrames,
  pingFrame,
  rstStreamFrame,
  settingsAckFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../../../../proxy/http2/frames.ts'
import { HpackDecoder } from '../../../../proxy/http2/hpack-decoder.ts'
import { HpackEncoder } from '../../../../proxy/http2/hpack-encoder.ts'
import {
  dataFrame,
  eventsOf,
  type FrameEvent,
  ignoringFrames,
  OPENING,
  priorityFrame,
  split,
} from '../../../support/http2-frames.ts'

const SEED = Number(process.env.POSTERN_FUZZ_SEED ?? Date.now() % 0x7fffffff)
const COUNT = Number(process.env.POSTERN_FUZZ_COUNT ?? 100_000)

const streamId = fc.nat(1_000).map(n => 2 * n + 1)
const buffer = (maxLength: number) => fc.uint8Array({ maxLength }).map(array => Buffer.from(array))
const frame = fc.oneof(
  fc.tuple(streamId, buffer(300), fc.boolean()).map(([id, payload, end]) => dataFrame(id, payload, end)),
  fc
    .tuple(streamId, buffer(300), fc.boolean(), fc.integer({ min: 50, max: 200 }))
    .map(([id, block, end, size]) => headersFrames(id, block, end, size)),
  fc.tuple(streamId, fc.nat(20)).map(([id, code]) => rstStreamFrame(id, code)),
  fc.tuple(streamId, fc.integer({ min: 1, max: 0x7fffffff })).map(([id, by]) => windowUpdateFrame(id, by)),
  fc
    .tuple(
      buffer(8).map(bytes => Buffer.concat([bytes, Buffer.alloc(8)], 8)),
      fc.boolean(),
    )
    .map(([opaque, ack]) => pingFrame(opaque, ack)),
  fc.tuple(streamId, fc.nat(20), buffer(40)).map(([id, code, debug]) => goawayFrame(id, code, debug)),
  fc.constant(
    settingsFrame([
      [4, 70_000],
      [0x99, 1],
    ]),
  ),
  fc.constant(settingsAckFrame()),
  streamId.map(id => priorityFrame(id, Buffer.from('0000000010', 'hex'))),
)

t.test('frames are read alike, however they are split', async t => {
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 12 }),
      fc.array(fc.nat(4_000), { maxLength: 20 }),
      (frames, ends) => {
        const bytes = Buffer.concat([OPENING, ...frames])
        return outcome([bytes]) === outcome(split(bytes, ends))
      },
    ),
    { numRuns: 1_000 },
  )
  t.pass()
})

t.test(`${COUNT} mutants (seed ${SEED}) end in events or in an Http2Error`, async t => {
  const random = mulberry32(SEED)
  const seeds = conversations()
  let refused = 0
  const before = process.memoryUsage().heapUsed
  const started = performance.now()
  for (let index = 0; index < COUNT; index += 1) {
    const original = seeds[index % seeds.length] ?? OPENING
    if (!reads(mutate(original, random), random)) refused += 1
  }
  const perMutant = ((performance.now() - started) * 1000) / COUNT
  t.ok(refused > COUNT / 20, `${refused} were refused`)
  t.ok(refused < COUNT, 'and some were not')
  t.ok(perMutant < 2_000, `${perMutant.toFixed(0)} µs each`)
  const grown = process.memoryUsage().heapUsed - before
  t.ok(grown < 256 * 1024 * 1024, `${grown} bytes more in the heap`)
})

/** Everything that a receiver of requests does with bytes. Returns whether they were taken. */
function reads(bytes: Buffer, random: () => number): boolean {
  const decoder = new HpackDecoder({ maxTableSize: 4096, maxListSize: 8_192 })
  const sum = { data: 0, flowControlled: 0 }
  const reader = new FrameReader(
    {
      ...ignoringFrames,
      data: (_, piece, flowControlled) => {
        sum.data += piece.length
        sum.flowControlled += flowControlled
      },
      headers: (id, block) => {
        const list = decoder.decode(block, id)
        const size = list.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0)
        if (size > 8_192) throw new Error(`a list of ${size} bytes`)
        readRequest(list, id)
      },
    },
    { from: 'client', maxFrameSize: 16_384 },
  )
  try {
    const middle = Math.floor(random() * bytes.length)
    reader.push(bytes.subarray(0, middle))
    reader.push(bytes.subarray(middle))
  } catch (thrown) {
    if (!(thrown instanceof Http2Error)) throw thrown
    return false
  }
  if (sum.data > sum.flowControlled || sum.flowControlled > bytes.length + 256) throw new Error('lost count')
  return true
}

function outcome(chunks: readonly Buffer[]): string {
  const seen: FrameEvent[] = []
  try {
    eventsOf(chunks, {}, seen)
  } catch (thrown) {
    if (!(thrown instanceof Http2Error)) throw thrown
    // What a piece of DATA had delivered before the error depends on where the chunk ended.
    return JSON.stringify([thrown.code, seen.filter(([kind]) => kind !== 'data')])
  }
  return JSON.stringify(seen)
}

function conversations(): Buffer[] {
  const encoder = new HpackEncoder()
  const request = (path: string) =>
    encoder.encode([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':authority', 'shop:8080'],
      [':path', path],
      ['content-type', 'application/grpc'],
      ['cookie', 'a=b'],
    ])
  const [first, second] = [request('/shop.Cart/Get'), request('/shop.Cart/Put')]
  const body = Buffer.alloc(120, 'body')
  const padded = dataFrame(1, Buffer.concat([Buffer.from([10]), body]), false)
  padded[4] = 0x8
  return [
    [headersFrames(1, first, false), dataFrame(1, body, true), headersFrames(3, second, true)],
    [headersFrames(1, first, false, 9), padded, rstStreamFrame(1, ErrorCode.CANCEL), settingsAckFrame()],
    [
      settingsFrame([
        [1, 0],
        [3, 100],
        [4, 1_000_000],
        [5, 20_000],
        [6, 9_000],
      ]),
      pingFrame(Buffer.alloc(8), false),
    ],
    [
      windowUpdateFrame(0, 99),
      goawayFrame(0, 0, body),
      headersFrames(1, first, true),
      headersFrames(3, second, true),
    ],
  ].map(frames => Buffer.concat([OPENING, ...frames]))
}

/** Bytes changed, cut out, doubled; never in the preface, behind which nothing would be tested. */
function mutate(original: Buffer, random: () => number): Buffer {
  const from = OPENING.length
  const pick = (below: number) => Math.floor(random() * below)
  let bytes = Buffer.from(original)
  for (let changes = 1 + pick(3); changes > 0; changes -= 1) {
    const at = from + pick(bytes.length - from)
    const length = pick(12)
    const kind = pick(8)
    if (kind < 5) bytes[at] = kind < 2 ? (bytes[at] ?? 0) ^ (1 << pick(8)) : pick(256)
    else if (kind === 5 && bytes.length > from + 40)
      bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)])
    else bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)])
  }
  return bytes
}

function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }
}

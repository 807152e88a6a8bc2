// Bulk on its way out: whoever has filled the next write waits until it has left, and nothing of his is queued for it.
import t from 'tap'
import { Setting, settingsFrame, windowUpdateFrame } from '../../../../proxy/http2/frames.ts'
import { CHUNK_BYTES, OUTPUT_BYTES } from '../../../../proxy/tunnel/blocks.ts'
import type { TunnelStream } from '../../../../proxy/tunnel/stream.ts'
import { sessionWire, type Wire } from '../../../support/session-wire.ts'

const WINDOW = 1 << 20
const CHUNK = Buffer.alloc(CHUNK_BYTES, 'x')
/** How many chunks are one write. */
const PER_WRITE = Math.floor(OUTPUT_BYTES / CHUNK_BYTES)

/** Streams with windows that do not matter, to a peer that takes frames of a whole chunk. */
async function streams(count: number): Promise<{ wire: Wire; opened: TunnelStream[]; drained: number[] }> {
  const wire = sessionWire('server', { maxStreams: count }, CHUNK_BYTES)
  wire.send(
    settingsFrame([
      [Setting.initialWindowSize, WINDOW],
      [Setting.maxFrameSize, CHUNK_BYTES],
    ]),
    windowUpdateFrame(0, 1 << 30),
    ...Array.from({ length: count }, (_, index) => wire.connect(2 * index + 1)),
  )
  await wire.quiet()
  const drained: number[] = []
  const opened = [...wire.requests]
  for (const stream of opened) {
    const drain = () => drained.push(stream.id)
    stream.open({ data: () => {}, end: () => {}, drain, closed: () => {} })
  }
  await wire.quiet()
  return { wire, opened, drained }
}

/** Writes until it is told to wait. Returns how many chunks that took. */
function fill(stream: TunnelStream): number {
  for (let written = 1; ; written += 1) if (!stream.write(CHUNK)) return written
}

const sent = (wire: Wire): number =>
  wire.seen.reduce((sum, [kind, , length]) => sum + (kind === 'data' ? Number(length) : 0), 0)

t.test('a writer fills one write, of which nothing is queued, and goes on when it has left', async t => {
  const { wire, opened, drained } = await streams(1)
  const [stream] = opened
  if (!stream) throw new Error('no stream')
  t.equal(fill(stream), PER_WRITE)
  t.equal(stream.unsent, 0)
  t.same(drained, [], 'not during the call')
  await wire.quiet()
  t.same(drained, [1])
  t.equal(sent(wire), PER_WRITE * CHUNK_BYTES)
  wire.close()
})

t.test('while a write is stuck one more is filled, and no more is taken', async t => {
  const { wire, opened, drained } = await streams(1)
  const [stream] = opened
  if (!stream) throw new Error('no stream')
  wire.stick()
  fill(stream)
  await wire.quiet()
  t.same(drained, [1], 'the first is on its way')
  t.equal(fill(stream), PER_WRITE)
  t.equal(stream.unsent, 0)
  await wire.quiet()
  t.same(drained, [1])
  wire.unstick()
  await wire.quiet()
  t.same(drained, [1, 1])
  wire.close()
})

t.test('who finds the write full waits as well, and both are told', async t => {
  const { wire, opened, drained } = await streams(2)
  const [one, other] = opened
  if (!one || !other) throw new Error('no streams')
  wire.stick()
  fill(one)
  await wire.quiet()
  fill(one)
  t.equal(other.write(CHUNK), false)
  t.equal(other.unsent, CHUNK_BYTES)
  wire.unstick()
  await wire.quiet()
  t.same(drained.toSorted(), [1, 1, 3])
  t.equal(sent(wire), (2 * PER_WRITE + 1) * CHUNK_BYTES)
  wire.close()
})

t.test('who is cut off while he waits is told that, and nothing else', async t => {
  const { wire, opened, drained } = await streams(1)
  const [stream] = opened
  if (!stream) throw new Error('no stream')
  fill(stream)
  stream.reset()
  await wire.quiet()
  t.same(drained, [])
  wire.close()
})

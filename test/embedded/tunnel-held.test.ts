// What is held for whoever does not read has one bound, however many connections and streams it comes over.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { inFlight } from '../../proxy/tcp/write.ts'
import type { ByteStream, Sink } from '../../proxy/tunnel/byte-stream.ts'
import { Held, type HeldMarks } from '../../proxy/tunnel/held.ts'
import { HELD } from '../../proxy/tunnel/settings.ts'
import { serverTarget, type TunnelPair, tunnelPair } from '../support/tunnel-pair.ts'

const KIB = 1024
const MIB = 1024 * KIB
const WINDOW = Buffer.alloc(64 * KIB, 'x')
/** More than one connection takes. */
const STREAMS = 300

type Kept = { readonly stream: ByteStream; reads: boolean; closed: string | undefined; got: number }

/** Opened; read no further than the first chunk unless it `reads`. */
function keep(stream: ByteStream, reads: boolean): Kept {
  const kept: Kept = { stream, reads, closed: undefined, got: 0 }
  const sink: Sink = {
    data: chunk => {
      kept.got += chunk.length
      if (!kept.reads) stream.pause()
    },
    end: () => stream.end(),
    drain: () => {},
    closed: how => {
      kept.closed = how
    },
  }
  stream.open(sink)
  return kept
}

/** An application that accepts, and reads only when it is told to. */
async function lazyApplication(marks: HeldMarks) {
  const accepted: Kept[] = []
  const limits: string[] = []
  const held = new Held(limit => limits.push(limit), marks)
  const pair = await tunnelPair({ held, onRequest: request => accepted.push(keep(request.accept(), false)) })
  return { accepted, limits, held, pair }
}

const openMany = (pair: TunnelPair, count: number): Promise<Kept[]> =>
  Promise.all(
    Array.from({ length: count }, async () => {
      const { stream } = await pair.dialer.open(serverTarget(), AbortSignal.timeout(20_000))
      return keep(stream, true)
    }),
  )

async function until(reached: () => boolean): Promise<void> {
  for (let left = 500; left > 0 && !reached(); left -= 1) await delay(10)
  if (!reached()) throw new Error('it did not come to that')
}

t.test('beyond what may be held nothing new is taken in, until somebody reads', async t => {
  const { accepted, held, pair } = await lazyApplication({ tight: 8 * MIB, most: 64 * MIB })
  await using _ = pair
  const callers = await openMany(pair, STREAMS)
  t.notOk(held.isTight, 'streams that hold nothing cost little')
  for (const { stream } of callers) stream.write(WINDOW)
  await until(() => held.bytes >= STREAMS * WINDOW.length)
  t.ok(held.isTight)
  await t.rejects(openMany(pair, 1), { code: 'PSTN_LIMIT' })
  t.equal(pair.refused.at(-1)?.code, 'PSTN_LIMIT')
  t.same(pair.limits, ['tunnel_held'], 'asked once, and not again on other connections')
  t.equal(accepted.length, STREAMS, 'no application is dialled for it')
  for (const kept of accepted) {
    kept.reads = true
    kept.stream.resume()
  }
  await until(() => accepted.every(({ got }) => got === WINDOW.length))
  t.equal(held.bytes, STREAMS * HELD.stream)
  const [late] = await openMany(pair, 1)
  t.equal(late?.closed, undefined)
  t.ok(callers.every(({ closed }) => closed === undefined))
})

t.test('beyond a second mark the streams that hold most for longest are reset, and no others', async t => {
  const marks = { tight: 8 * MIB, most: 12 * MIB }
  const { accepted, limits, held, pair } = await lazyApplication(marks)
  await using _ = pair
  const callers = await openMany(pair, STREAMS)
  const long = callers.slice(0, 60)
  const short = callers.slice(60, 200)
  const idle = callers.slice(200)
  for (const { stream } of long) stream.write(WINDOW)
  await until(() => held.bytes >= long.length * WINDOW.length)
  await delay(500)
  t.ok(accepted.every(({ closed }) => closed === undefined))
  for (const { stream } of short) stream.write(WINDOW)
  await until(() => limits.length > 0)
  await until(() => long.every(({ closed }) => closed === 'reset'))
  t.ok(
    short.some(({ closed }) => closed === undefined),
    'no more than are needed',
  )
  t.ok(idle.every(({ closed }) => closed === undefined))
  t.ok(held.bytes <= marks.most)
  const reset = callers.filter(({ closed }) => closed === 'reset').length
  t.equal(limits.length, reset, 'each is counted')
})

t.test('what applications write and peers do not take counts as well', async t => {
  const marks = { tight: 4 * MIB, most: 64 * MIB }
  const { accepted, held, pair } = await lazyApplication(marks)
  await using _ = pair
  const callers = await openMany(pair, STREAMS)
  for (const { stream } of callers) stream.pause()
  const chunk = Buffer.alloc(8 * KIB, 'y')
  let written = 0
  for (const { stream } of accepted) {
    do written += chunk.length
    while (stream.write(chunk))
    await delay(0)
  }
  t.ok(held.isTight)
  const most = marks.tight + STREAMS * chunk.length
  t.ok(held.bytes <= most, `${held.bytes} of at most ${most} bytes are held`)
  for (const { stream } of callers) stream.resume()
  const received = () => callers.reduce((sum, { got }) => sum + got, 0)
  await until(() => received() === written)
  t.equal(held.bytes, STREAMS * HELD.stream)
})

t.test('with the connections all that was held for them is gone', async t => {
  const { held, pair } = await lazyApplication(HELD)
  {
    await using _ = pair
    const callers = await openMany(pair, STREAMS)
    for (const { stream } of callers) for (const _ of ['taken', 'waiting']) stream.write(WINDOW)
    await until(() => held.bytes >= STREAMS * WINDOW.length)
  }
  await until(() => inFlight.bytes === 0)
  t.equal(held.bytes, 0)
})

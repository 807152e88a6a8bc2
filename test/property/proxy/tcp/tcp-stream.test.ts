// Many connections at once, both ends TcpStreams, each of which does what a seed says: also from inside its callbacks, to
// itself and to others. Whatever happens: bytes are the ones of this connection and in order, an end is told after all of
// them, `closed` exactly once and last, nothing is told to who paused, and no descriptor is left.
// `POSTERN_FUZZ_SEED` and `POSTERN_FUZZ_COUNT` choose the connections.
import { readdirSync, readlinkSync } from 'node:fs'
import type { Server } from 'node:net'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { listenTcp } from '../../../../proxy/tcp/accept.ts'
import type { TcpStream } from '../../../../proxy/tcp/tcp-stream.ts'
import { inFlight } from '../../../../proxy/tcp/write.ts'
import { seededBytes } from '../../../support/seeded-bytes.ts'
import { type Random, randomFrom } from '../../../support/session-conversation.ts'
import { dialTcp, portOf } from '../../../support/tcp-pair.ts'

const SEED = Number(process.env.POSTERN_FUZZ_SEED ?? Date.now() % 0x7fffffff)
const COUNT = Number(process.env.POSTERN_FUZZ_COUNT ?? 12)
const PAIRS = 24
const STEPS = 600
/** Around what is written at once, what is gathered, and what fills a block; and what no socket buffer takes. */
const SIZES = [0, 1, 100, 4_095, 4_096, 5_000, 64 * 1024, 131_072, 131_073, 300_000, 3_000_000]

/** Who is not over by then never is. */
const PATIENCE_MS = 20_000

class Talker {
  readonly stream: TcpStream
  readonly problems: string[]
  sent = 0
  received = 0
  hasSentEnd = false
  hasReceivedEnd = false
  closed: 'ended' | 'reset' | undefined
  other: Talker | undefined
  readonly #name: string
  readonly #random: Random
  readonly #outgoing: { take(count: number): Buffer }
  readonly #incoming: { take(count: number): Buffer }
  /** Something at random, to anybody. */
  readonly #act: () => void
  #isOpen = false
  #isPaused = false
  #isAsking = false

  constructor(
    stream: TcpStream,
    name: { readonly own: string; readonly peer: string },
    { random, problems, act }: { random: Random; problems: string[]; act: () => void },
  ) {
    this.stream = stream
    this.problems = problems
    this.#name = name.own
    this.#random = random
    this.#act = act
    this.#outgoing = seededBytes(name.own)
    this.#incoming = seededBytes(name.peer)
  }

  act(): void {
    const { stream } = this
    this.#isAsking = true
    switch (this.#random.below(40)) {
      case 0:
        stream.reset()
        break
      case 1:
        stream.close()
        break
      case 2:
      case 3:
        this.end()
        break
      case 4:
      case 5:
      case 6:
        stream.pause()
        this.#isPaused = true
        break
      case 7:
      case 8:
      case 9:
      case 10:
        this.resume()
        break
      case 11:
      case 12:
      case 13:
        this.open()
        break
      default:
        this.#write()
    }
    this.#isAsking = false
  }

  /** What it has to do to be over, sooner or later. */
  finish(): void {
    this.open()
    this.resume()
    this.end()
  }

  open(): void {
    if (this.#isOpen) return
    this.#isOpen = true
    const later = () => {
      if (this.#random.chance(4)) this.#act()
    }
    this.stream.open({
      borrows: this.#random.chance(2),
      data: chunk => {
        this.#told('data')
        if (!chunk.equals(this.#incoming.take(chunk.length))) this.#fail(`other bytes at ${this.received}`)
        this.received += chunk.length
        if (this.hasReceivedEnd) this.#fail('data after the end')
        later()
      },
      end: () => {
        this.#told('end')
        if (this.hasReceivedEnd) this.#fail('two ends')
        this.hasReceivedEnd = true
        if (this.received !== this.other?.sent) this.#fail(`${this.received} of ${this.other?.sent} bytes`)
        later()
      },
      drain: () => {
        if (this.closed || this.#isAsking) this.#fail('drain')
        later()
      },
      closed: how => {
        if (this.closed) this.#fail(`closed twice: ${this.closed}, ${how}`)
        if (this.#isAsking) this.#fail('closed during a call')
        if (how === 'ended' && !(this.hasSentEnd && this.hasReceivedEnd)) this.#fail('ended without an end')
        this.closed = how
        later()
      },
    })
  }

  resume(): void {
    this.stream.resume()
    this.#isPaused = false
  }

  end(): void {
    this.stream.end()
    this.hasSentEnd = true
  }

  #write(): void {
    if (this.hasSentEnd || this.stream.isOver) return
    const chunk = this.#outgoing.take(SIZES[this.#random.below(SIZES.length)] ?? 0)
    this.sent += chunk.length
    this.stream.write(chunk)
    chunk.fill(0)
  }

  #told(what: string): void {
    if (this.closed) this.#fail(`${what} after closed`)
    if (this.#isPaused) this.#fail(`${what} while paused`)
    if (this.#isAsking) this.#fail(`${what} during a call`)
  }

  #fail(why: string): void {
    this.problems.push(`${this.#name}: ${why}`)
  }
}

const sockets = (): number =>
  readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:')
    } catch {
      return false
    }
  }).length

async function pairs(server: Server, accepted: TcpStream[]): Promise<[TcpStream, TcpStream][]> {
  const dialled = await Promise.all(Array.from({ length: PAIRS }, () => dialTcp(portOf(server))))
  while (accepted.length < PAIRS) await turn()
  return dialled.map(near => {
    const far = accepted.find(({ peer }) => peer?.port === near.local?.port)
    if (!far) throw new Error('nobody was accepted')
    return [near, far]
  })
}

async function converse(random: Random): Promise<{ talkers: Talker[]; problems: string[] }> {
  const accepted: TcpStream[] = []
  const problems: string[] = []
  const server = await listenTcp(
    { host: '127.0.0.1', port: 0 },
    stream => accepted.push(stream),
    error => problems.push(error.message),
  )
  const talkers: Talker[] = []
  const act = () => talkers[random.below(talkers.length)]?.act()
  for (const [index, [near, far]] of (await pairs(server, accepted)).entries()) {
    const [a, b] = [`${index} near`, `${index} far`]
    const one = new Talker(near, { own: a, peer: b }, { random, problems, act })
    const two = new Talker(far, { own: b, peer: a }, { random, problems, act })
    one.other = two
    two.other = one
    talkers.push(one, two)
  }
  server.close()
  for (let step = 0; step < STEPS; step += 1) {
    act()
    if (random.chance(8)) await turn()
  }
  for (const talker of talkers) talker.finish()
  const deadline = Date.now() + PATIENCE_MS
  while (talkers.some(({ closed }) => !closed) && Date.now() < deadline) {
    for (const talker of talkers) talker.resume()
    await delay(1)
  }
  await delay(5)
  return { talkers, problems }
}

t.test(`${COUNT} times ${PAIRS} connections (seed ${SEED})`, { timeout: 120_000 }, async t => {
  const before = sockets()
  const how = { ended: 0, reset: 0, never: 0 }
  for (let index = 0; index < COUNT; index += 1) {
    const { talkers, problems } = await converse(randomFrom(SEED + index))
    for (const { closed, sent, other } of talkers) {
      how[closed ?? 'never'] += 1
      if (closed === 'ended' && other?.closed === 'ended' && other.received !== sent) problems.push('lost')
    }
    if (problems.length > 0) t.same(problems, [], `seed ${SEED + index}`)
  }
  t.match(how, { never: 0 }, JSON.stringify(how))
  t.ok(how.ended > COUNT && how.reset > COUNT, 'both ways')
  t.equal(sockets(), before, 'no descriptor is left')
  t.equal(inFlight.bytes, 0)
})

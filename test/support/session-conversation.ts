// Two sessions of the tunnel in memory and applications at both ends that talk at random, checking what they are told.
import { setImmediate as turn } from 'node:timers/promises'
import type { ByteStream } from '../../proxy/tunnel/byte-stream.ts'
import { writeAnswer, writeConnect } from '../../proxy/tunnel/connect-headers.ts'
import { Allowance } from '../../proxy/tunnel/flow-control.ts'
import { Held } from '../../proxy/tunnel/held.ts'
import { Session } from '../../proxy/tunnel/session.ts'
import { RECEIVE } from '../../proxy/tunnel/settings.ts'
import { type MemoryEnd, memoryPair } from './memory-pair.ts'
import { seededRandom } from './seeded-bytes.ts'

export type Random = { below(limit: number): number; chance(of: number): boolean }

export function randomFrom(seed: number): Random {
  const next = seededRandom(seed)
  const below = (limit: number) => Math.floor(next() * limit)
  return { below, chance: of => below(of) === 0 }
}

const STEPS = 25

/** One end of a stream: does something at random, and checks what it is told. */
class Talker {
  readonly stream: ByteStream
  readonly sent: Buffer[] = []
  readonly received: Buffer[] = []
  closed: 'ended' | 'reset' | undefined
  #ended = false
  #paused = false
  #done = false

  constructor(stream: ByteStream, fail: (why: string) => void) {
    this.stream = stream
    const live = (what: string) => {
      if (this.closed) fail(`${what} after closed`)
    }
    stream.open({
      data: chunk => {
        live('data')
        if (this.#paused) fail('data while paused')
        if (this.#ended) fail('data after the end')
        this.received.push(Buffer.from(chunk))
      },
      end: () => {
        live('end')
        if (this.#ended) fail('two ends')
        this.#ended = true
      },
      drain: () => live('drain'),
      closed: how => {
        live('closed')
        if (how === 'ended' && !this.#ended) fail('ended without an end')
        this.closed = how
      },
    })
  }

  act(random: Random): void {
    switch (random.below(10)) {
      case 0:
        this.#paused = true
        this.stream.pause()
        break
      case 1:
      case 2:
        this.#resume()
        break
      case 3:
        if (random.chance(4)) this.stream.reset()
        break
      case 4:
        this.end()
        break
      default: {
        if (this.#done) break
        const chunk = Buffer.alloc(
          random.chance(4) ? random.below(200_000) : random.below(300),
          random.below(256),
        )
        this.sent.push(Buffer.from(chunk))
        this.stream.write(chunk)
      }
    }
  }

  end(): void {
    this.#done = true
    this.#resume()
    this.stream.end()
  }

  #resume(): void {
    this.#paused = false
    this.stream.resume()
  }
}

export class Conversation {
  readonly talkers: Talker[] = []
  readonly pairs = new Map<number, { client?: Talker; server?: Talker }>()
  readonly failures: string[] = []
  readonly growth = new Allowance(RECEIVE.growth)
  readonly held = new Held()
  readonly client: Session
  readonly server: Session
  readonly ends: [MemoryEnd, MemoryEnd] = memoryPair()
  answers = 0
  asked = 0

  constructor(random: Random) {
    const common = {
      maxStreams: 20,
      growth: this.growth,
      held: this.held,
      onLimit: () => {},
      onClose: () => {},
    }
    this.client = new Session({ ...common, role: 'client', socket: this.ends[0], onRequest: () => {} })
    this.server = new Session({
      ...common,
      role: 'server',
      socket: this.ends[1],
      onRequest: (stream, request) => {
        if (request.kind !== 'connect' || random.chance(10)) {
          this.server.streams.answer(stream, writeAnswer(503, 'PSTN_APP_UNREACHABLE'), true)
          stream.reset(0)
          return
        }
        this.server.streams.answer(stream, writeAnswer(200), false)
        this.#talk(stream.id, 'server', stream)
      },
    })
  }

  ask(): void {
    if (!this.client.hasRoom) return
    this.asked += 1
    const stream = this.client.streams.open(writeConnect('10.0.0.1:80', {}), answer => {
      this.answers += 1
      if (answer?.status === 200) this.#talk(stream.id, 'client', stream)
      else stream.reset()
    })
  }

  async step(random: Random): Promise<void> {
    if (random.chance(2)) this.ask()
    const talker = this.talkers[random.below(this.talkers.length + 1)]
    for (let count = random.below(4); count > 0; count -= 1) talker?.act(random)
    if (random.chance(3)) await turn()
    if (random.chance(60)) (random.chance(2) ? this.client : this.server).retire()
  }

  /** Everybody ends, and then the connection does. */
  async finish(): Promise<void> {
    for (let idle = 0; idle < 300 && this.talkers.some(({ closed }) => !closed); idle += 1) {
      for (const talker of this.talkers) talker.end()
      await turn()
    }
    this.client.destroy()
    this.server.destroy()
    await turn()
    await turn()
  }

  #talk(id: number, side: 'client' | 'server', stream: ByteStream): void {
    const talker = new Talker(stream, why => this.failures.push(`${side} ${id}: ${why}`))
    this.talkers.push(talker)
    this.pairs.set(id, { ...this.pairs.get(id), [side]: talker })
  }
}

export async function converse(random: Random, mutate?: (chunk: Buffer) => Buffer[]): Promise<Conversation> {
  const conversation = new Conversation(random)
  for (const end of conversation.ends) if (mutate) end.through = mutate
  for (let step = 0; step < STEPS; step += 1) await conversation.step(random)
  await conversation.finish()
  return conversation
}

/** What is wrong with a conversation that is over, however it went. */
export function wrong({ talkers, failures, growth, held, asked, answers }: Conversation): string[] {
  const open = talkers.filter(({ closed }) => !closed).length
  const left = growth.take(RECEIVE.growth)
  return [
    ...failures,
    ...(open > 0 ? [`${open} streams were never closed`] : []),
    ...(asked === answers ? [] : [`${answers} answers to ${asked} requests`]),
    ...(left === RECEIVE.growth ? [] : [`${RECEIVE.growth - left} bytes of growth were kept`]),
    ...(held.bytes === 0 ? [] : [`${held.bytes} bytes are held`]),
  ]
}

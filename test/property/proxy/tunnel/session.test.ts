// Two sessions that talk at random, over a wire that is whole, and over one that mutates what it carries. Whatever
// happens: every reader is told its end exactly once and nothing after it, nothing borrowed is kept, nothing is thrown.
// `POSTERN_FUZZ_SEED` and `POSTERN_FUZZ_COUNT` choose the conversations.
import t from 'tap'
import {
  goawayFrame,
  headersFrames,
  pingFrame,
  rstStreamFrame,
  settingsFrame,
  windowUpdateFrame,
} from '../../../../proxy/http2/frames.ts'
import { dataFrame } from '../../../support/http2-frames.ts'
import { converse, type Random, randomFrom, wrong } from '../../../support/session-conversation.ts'

const SEED = Number(process.env.POSTERN_FUZZ_SEED ?? Date.now() % 0x7fffffff)
const COUNT = Number(process.env.POSTERN_FUZZ_COUNT ?? 1_500)

const mutation =
  (random: Random) =>
  (chunk: Buffer): Buffer[] => {
    if (!random.chance(12)) return [chunk]
    const at = random.below(chunk.length)
    const id = 2 * random.below(12) + 1
    switch (random.below(9)) {
      case 0:
        chunk[at] = random.below(256)
        return [chunk]
      case 1:
        return [chunk.subarray(0, at)]
      case 2:
        return [chunk, chunk]
      case 3:
        return [chunk, windowUpdateFrame(id, random.below(2 ** 31 - 1))]
      case 4:
        return [chunk, rstStreamFrame(id, random.below(14))]
      case 5:
        return [chunk, dataFrame(id, Buffer.alloc(random.below(30_000)), random.chance(2))]
      case 6:
        return [chunk, settingsFrame([[1 + random.below(6), random.below(100_000)]])]
      case 7:
        return [
          chunk,
          headersFrames(id, Buffer.alloc(random.below(9), 0x82 + random.below(20)), random.chance(2)),
        ]
      default:
        return [chunk, random.chance(3) ? goawayFrame(id, 0) : pingFrame(Buffer.alloc(8), random.chance(2))]
    }
  }

t.test(`${COUNT} conversations over a whole wire (seed ${SEED})`, { timeout: 120_000 }, async t => {
  let complete = 0
  for (let index = 0; index < COUNT; index += 1) {
    const conversation = await converse(randomFrom(SEED + index))
    const problems = wrong(conversation)
    for (const [id, { client, server }] of conversation.pairs) {
      if (client?.closed !== 'ended' || server?.closed !== 'ended') continue
      complete += 1
      if (!Buffer.concat(client.sent).equals(Buffer.concat(server.received)))
        problems.push(`${id} towards the server`)
      if (!Buffer.concat(server.sent).equals(Buffer.concat(client.received)))
        problems.push(`${id} towards the client`)
    }
    if (problems.length > 0) t.same(problems, [], `seed ${SEED + index}`)
  }
  t.ok(complete > COUNT, `${complete} streams ended in order`)
})

t.test(`${COUNT} conversations over a wire that mutates (seed ${SEED})`, { timeout: 120_000 }, async t => {
  let reset = 0
  for (let index = 0; index < COUNT; index += 1) {
    const random = randomFrom(SEED + index)
    const conversation = await converse(random, mutation(random))
    reset += conversation.talkers.filter(({ closed }) => closed === 'reset').length
    const problems = wrong(conversation)
    if (problems.length > 0) t.same(problems, [], `seed ${SEED + index}`)
  }
  t.ok(reset > COUNT / 2, `${reset} streams were cut off`)
})

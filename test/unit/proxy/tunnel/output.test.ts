// What a session's output holds on to while it has nothing to write.
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { pingFrame } from '../../../../proxy/http2/frames.ts'
import { BLOCK_BYTES } from '../../../../proxy/tunnel/blocks.ts'
import { Output } from '../../../../proxy/tunnel/output.ts'
import { memoryPair } from '../../../support/memory-pair.ts'

t.test('an output that has written everything holds no block', async t => {
  const count = 50
  const before = process.memoryUsage().arrayBuffers
  const outputs: Output[] = []
  while (outputs.length < count) {
    const [ours, theirs] = memoryPair()
    theirs.resume()
    const output = new Output(ours, { fill: (_, at) => at, onFilled: () => {} })
    outputs.push(output)
    output.control(pingFrame(Buffer.alloc(8), false))
    for (let turns = 0; turns < 5; turns += 1) await turn()
    t.equal(output.room, BLOCK_BYTES - 9, 'it was written')
  }
  const held = process.memoryUsage().arrayBuffers - before
  t.ok(held < 5 * BLOCK_BYTES, `${held} bytes`)
})

import { randomBytes } from 'node:crypto'
import t from 'tap'
import { ByteQueue } from '../../../../proxy/tunnel/byte-queue.ts'

function take(queue: ByteQueue, bytes: number): Buffer {
  const target = Buffer.alloc(bytes + 3)
  t.equal(queue.moveTo(target, 3, bytes), bytes + 3)
  return target.subarray(3)
}

t.test('bytes come out as they went in, however they are cut', async t => {
  const queue = new ByteQueue()
  const all = randomBytes(200_000)
  let [put, taken] = [0, 0]
  for (let step = 1; put < all.length || taken < all.length; step += 1) {
    const size = Math.min((step * 7919) % 5000, all.length - put)
    queue.push(Buffer.from(all.subarray(put, put + size)))
    put += size
    const wanted = Math.min((step * 104_729) % 6000, queue.length)
    t.ok(take(queue, wanted).equals(all.subarray(taken, taken + wanted)), `from ${taken}`)
    taken += wanted
    const chunk = step % 3 === 0 ? queue.shift() : undefined
    t.ok(!chunk || chunk.equals(all.subarray(taken, taken + chunk.length)), `from ${taken}`)
    taken += chunk?.length ?? 0
  }
  t.equal(queue.length, 0)
})

t.test('many small chunks of large memory are held in about as much memory as they are', async t => {
  const queue = new ByteQueue()
  const memory = new Set<ArrayBufferLike>()
  for (let count = 0; count < 1000; count += 1) queue.push(Buffer.alloc(16_384).subarray(5, 105))
  for (let chunk = queue.shift(); chunk; chunk = queue.shift()) memory.add(chunk.buffer)
  const bytes = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0)
  t.ok(bytes < 150_000, `${bytes} bytes for 100,000`)
})

t.test('what was lent may be overwritten, and what was taken is not', async t => {
  const queue = new ByteQueue()
  const lent = Buffer.from('first')
  queue.push(lent)
  lent.fill('x')
  queue.push(Buffer.from('second'))
  const taken = queue.shift()
  t.equal(String(taken), 'firstsecond')
  queue.push(Buffer.from('third'))
  t.equal(String(taken), 'firstsecond')
  t.equal(String(take(queue, 5)), 'third')
})

t.test('what is thrown away is counted', async t => {
  const queue = new ByteQueue()
  queue.push(Buffer.alloc(10))
  queue.push(Buffer.alloc(0))
  queue.push(Buffer.alloc(5))
  t.equal(queue.clear(), 15)
  t.equal(queue.length, 0)
  t.equal(queue.shift(), undefined)
})

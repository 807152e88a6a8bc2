import t from 'tap'
import { workQueue } from '../../../../injector/signer/work-queue.ts'
import { systemClock } from '../../../../shared/clock.ts'

const options = (signal: AbortSignal, concurrency = 2) => ({
  concurrency,
  retry: { baseMs: 2, capMs: 4 },
  clock: systemClock,
  signal,
  random: () => 0,
  onError: () => undefined,
})
const turn = () => new Promise<void>(resolve => setImmediate(resolve))

t.test('a key is worked on by one worker, and once more for what came meanwhile', async t => {
  const stop = new AbortController()
  const gates: PromiseWithResolvers<void>[] = []
  const queue = workQueue(async () => {
    const gate = Promise.withResolvers<void>()
    gates.push(gate)
    await gate.promise
  }, options(stop.signal))
  for (let times = 0; times < 5; times += 1) queue.add('a')
  await turn()
  t.equal(gates.length, 1)
  gates[0]?.resolve()
  await turn()
  t.equal(gates.length, 2)
  gates[1]?.resolve()
  await turn()
  t.equal(gates.length, 2)
  stop.abort()
})

t.test('no more at once than allowed, and all of them in the end', async t => {
  const stop = new AbortController()
  const done = new Set<string>()
  let running = 0
  let most = 0
  const queue = workQueue(
    async key => {
      running += 1
      most = Math.max(most, running)
      await turn()
      running -= 1
      done.add(key)
    },
    options(stop.signal, 3),
  )
  for (let key = 0; key < 20; key += 1) queue.add(`${key}`)
  while (done.size < 20) await turn()
  t.equal(most, 3)
  stop.abort()
})

t.test('a failure is tried again until it works', async t => {
  const stop = new AbortController()
  const errors: unknown[] = []
  const finished = Promise.withResolvers<void>()
  let attempts = 0
  const handle = async () => {
    attempts += 1
    if (attempts < 4) throw new Error(`attempt ${attempts}`)
    finished.resolve()
  }
  workQueue(handle, { ...options(stop.signal), onError: (_, error) => errors.push(error) }).add('a')
  await finished.promise
  t.equal(errors.length, 3)
  stop.abort()
})

t.test('nothing is started or retried after the end', async t => {
  const stop = new AbortController()
  let attempts = 0
  const queue = workQueue(async () => {
    attempts += 1
    throw new Error('again')
  }, options(stop.signal))
  queue.add('a')
  await turn()
  stop.abort()
  queue.add('b')
  await new Promise(resolve => setTimeout(resolve, 20))
  t.equal(attempts, 1)
})

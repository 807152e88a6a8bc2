import t from 'tap'
import { workQueue } from '../../../../injector/signer/work-queue.ts'
import { systemClock } from '../../../../shared/clock.ts'

const options = (signal: AbortSignal, concurrency = 2) => ({
  turnOf: (key: string) => key.split('/')[0] ?? '',
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

/** The order in which keys are worked on, while two hundred of one namespace wait already. */
async function orderOf(later: readonly string[]): Promise<string[]> {
  const stop = new AbortController()
  const done: string[] = []
  const queue = workQueue(
    async key => {
      await turn()
      done.push(key)
    },
    options(stop.signal, 4),
  )
  for (let key = 0; key < 200; key += 1) queue.add(`noisy/${key}`)
  for (const key of later) queue.add(key)
  while (done.length < 200 + later.length) await turn()
  stop.abort()
  return done
}

t.test('however many keys one namespace adds, the others have their turns', async t => {
  const later = ['shop/0', 'shop/1', 'bank/0', 'shop/2']
  const order = await orderOf(later)
  t.same([...order].sort(), [...new Set(order)].sort(), 'each once')
  t.strictSame(
    order.slice(4, 11).map(key => (key.startsWith('noisy') ? 'noisy' : key)),
    ['noisy', 'shop/0', 'bank/0', 'noisy', 'shop/1', 'noisy', 'shop/2'],
  )
  t.strictSame(
    order.filter(key => key.startsWith('noisy')),
    Array.from({ length: 200 }, (_, key) => `noisy/${key}`),
    'and within a namespace who came first is first',
  )
})

t.test('keys that fail and come back take no turn of others', async t => {
  const stop = new AbortController()
  const done: string[] = []
  let failures = 0
  const queue = workQueue(
    async key => {
      await turn()
      if (key.startsWith('noisy')) {
        failures += 1
        throw new Error('again')
      }
      done.push(key)
    },
    { ...options(stop.signal, 1), retry: { baseMs: 0, capMs: 0 } },
  )
  for (let key = 0; key < 50; key += 1) queue.add(`noisy/${key}`)
  while (failures < 60) await turn()
  const before = failures
  for (let key = 0; key < 10; key += 1) queue.add(`shop/${key}`)
  while (done.length < 10) await turn()
  stop.abort()
  t.ok(failures - before <= 12, `${failures - before} of the failing keys between ten others`)
})

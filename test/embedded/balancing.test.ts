import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { reached, type ServicePath, type ServicePod, servicePath } from '../support/service-path.ts'
import { nextText, readAll } from '../support/tunnel-pair.ts'

const start = (path: ServicePath, ...numbers: number[]): Promise<ServicePod[]> =>
  Promise.all(numbers.map(number => path.startPod(number)))

/** The pods that so many connections reached, one after the other; undefined for those that were refused. */
async function dialTimes(path: ServicePath, times: number): Promise<(string | undefined)[]> {
  const found: (string | undefined)[] = []
  for (let n = 0; n < times; n++) {
    const socket = path.dial()
    found.push(await reached(socket))
    socket.destroy()
  }
  return found
}

/** Whether both directions still work. */
async function echoes(socket: Socket): Promise<boolean> {
  socket.write('still here?')
  return (await nextText(socket)) === 'still here?'
}

t.test('connections that stay open are spread over all pods of a Service', async t => {
  await using path = await servicePath()
  path.setEndpoints(...(await start(path, 1, 2, 3, 4)))
  const sockets = Array.from({ length: 200 }, () => path.dial())
  const counts = new Map<string | undefined, number>()
  for (const name of await Promise.all(sockets.map(reached))) counts.set(name, (counts.get(name) ?? 0) + 1)
  t.equal(counts.size, 4)
  t.ok(
    [...counts.values()].every(count => count > 40 && count < 60),
    [...counts].join(' '),
  )
  for (const socket of sockets) socket.destroy()
})

t.test(
  'a pod whose application does not listen costs no connection, and is left alone for a while',
  async t => {
    await using path = await servicePath()
    const [one, two, broken] = await start(path, 1, 2, 3)
    if (!one || !two || !broken) throw new Error('three pods')
    broken.behaviour = 'refuses'
    path.setEndpoints(one, two, broken)
    const found = await dialTimes(path, 100)
    t.notOk(found.includes(undefined), 'none was refused')
    t.notOk(found.includes('uid-3'))
    t.ok(broken.requests >= 1 && broken.requests < 5, `it was asked ${broken.requests} times, and not 33`)
    t.equal(path.metric('postern_retries_total'), broken.requests)
    t.equal(path.metric('postern_endpoint_ejections_total'), broken.requests)
    t.equal(path.metric('postern_endpoints_ejected'), 1)
    t.match(
      path.lines.find(({ msg }) => msg === 'endpoint ejected'),
      { code: 'PSTN_APP_UNREACHABLE', service: 'shop/web', endpoint: '127.0.1.3:8080', failures: 1 },
    )
    const retried = path.lines.find(({ msg, destination }) => msg === 'connection' && destination?.retries)
    t.match(retried, {
      outcome: 'ok',
      destination: { address: '127.96.0.1', retries: 1, identity: /sa\/web$/ },
    })
    t.match(retried?.destination?.endpoint, /^127\.0\.1\.[12]:8080$/)

    broken.behaviour = 'serves'
    await delay(1_100)
    t.equal((await dialTimes(path, 1))[0], 'uid-3', 'the first connection after its time probes it')
    t.equal(path.metric('postern_endpoints_ejected'), 0)
    t.ok(path.lines.some(({ msg }) => msg === 'endpoint returned'))
  },
)

t.test('what a caller says at once waits for the pod that opens, and arrives whole', async t => {
  await using path = await servicePath()
  const [broken, other, good] = await start(path, 1, 2, 3)
  if (!broken || !other || !good) throw new Error('three pods')
  broken.behaviour = 'refuses'
  other.behaviour = 'refuses'
  path.setEndpoints(broken, other, good)
  const said = randomBytes(512 * 1024)
  for (let n = 0; n < 10; n++) {
    const socket = path.dial()
    socket.end(said)
    const heard = await readAll(socket)
    t.equal(heard.indexOf('uid-3\n'), 0)
    t.ok(said.equals(heard.subarray('uid-3\n'.length)))
  }
  t.ok(path.metric('postern_retries_total') > 0)
})

t.test('a pod that swallows everything costs two seconds once, not ten each time', async t => {
  await using path = await servicePath()
  const [good, hole] = await start(path, 1, 2)
  if (!good || !hole) throw new Error('two pods')
  hole.behaviour = 'hangs'
  path.setEndpoints(good, hole)
  const started = performance.now()
  const found = await Promise.all(Array.from({ length: 20 }, () => path.dial()).map(reached))
  const tookMs = performance.now() - started
  t.same(new Set(found), new Set(['uid-1']))
  t.ok(tookMs > 1_900 && tookMs < 5_000, `${Math.round(tookMs)} ms`)
  const again = performance.now()
  t.same(await reached(path.dial()), 'uid-1')
  t.ok(performance.now() - again < 500)
})

t.test('a refusal by policy is told as it is: not asked elsewhere, nobody ejected', async t => {
  await using path = await servicePath()
  const pods = await start(path, 1, 2, 3)
  for (const pod of pods) pod.behaviour = 'denies'
  path.setEndpoints(...pods)
  t.same(await dialTimes(path, 10), Array(10).fill(undefined))
  t.equal(
    pods.reduce((sum, { requests }) => sum + requests, 0),
    10,
  )
  t.equal(path.metric('postern_retries_total'), 0)
  t.equal(path.metric('postern_endpoint_ejections_total'), 0)
  t.match(
    path.lines.find(({ msg }) => msg === 'decision'),
    { code: 'PSTN_POLICY_DENIED' },
  )
})

t.test('where every pod fails, the caller is refused with the last code after three tries', async t => {
  await using path = await servicePath()
  const pods = await start(path, 1, 2, 3, 4)
  for (const pod of pods) pod.behaviour = 'refuses'
  path.setEndpoints(...pods)
  t.same(await dialTimes(path, 1), [undefined])
  t.equal(
    pods.reduce((sum, { requests }) => sum + requests, 0),
    3,
  )
  t.match(
    path.lines.find(({ msg }) => msg === 'connection'),
    { outcome: 'refused', code: 'PSTN_APP_UNREACHABLE', destination: { retries: 2 } },
  )
  pods.forEach(pod => {
    pod.behaviour = 'serves'
  })
  t.ok((await dialTimes(path, 1))[0], 'all are used again at once, since more than half are out')
})

t.test('a pod that leaves its Service gets nothing new, and keeps what it has', async t => {
  await using path = await servicePath()
  const [leaving, staying] = await start(path, 1, 2)
  if (!leaving || !staying) throw new Error('two pods')
  path.setEndpoints(leaving)
  const live = path.dial()
  t.equal(await reached(live), 'uid-1')
  path.setEndpoints(staying)
  t.same(new Set(await dialTimes(path, 30)), new Set(['uid-2']))
  t.equal(await echoes(live), true)

  const drained = leaving.drain()
  t.equal(await echoes(live), true, 'its sidecar drains')
  live.end()
  await once(live, 'close')
  await drained
  t.pass('its tunnel was closed after the last stream')
})

t.test('an address that another pod got is reached as that pod, over a tunnel of its own', async t => {
  await using path = await servicePath()
  const former = await path.startPod(1, { uid: 'former', serviceAccount: 'web' })
  const other = await path.startPod(2)
  path.setEndpoints(former, other)
  const live: Socket[] = []
  for (let name: string | undefined; name !== 'former'; ) {
    const socket = path.dial()
    live.push(socket)
    name = await reached(socket)
  }
  const kept = live.at(-1)
  if (!kept) throw new Error('one connection')
  const drained = former.drain()
  const successor = await path.startPod(1, { uid: 'successor', serviceAccount: 'web-v2' })

  const stale = await dialTimes(path, 20)
  t.same(new Set(stale), new Set(['uid-2']), 'while the directory is late nobody reaches who is not meant')
  t.equal(successor.requests, 0)
  t.ok(path.lines.some(line => line.msg === 'endpoint ejected' && line.code === 'PSTN_PEER_UNEXPECTED'))

  path.setEndpoints(successor)
  t.same(new Set(await dialTimes(path, 5)), new Set(['successor']))
  t.equal(await echoes(kept), true, 'the former one’s stream lives on its own tunnel')
  for (const socket of live) socket.destroy()
  await drained
})

t.test('a rolling replacement under load loses no connection', async t => {
  await using path = await servicePath()
  let pods = await start(path, 1, 2, 3, 4)
  path.setEndpoints(...pods)
  const stopping = new AbortController()
  const counts = { reached: 0, refused: 0 }
  const load = async () => {
    while (!stopping.signal.aborted) {
      const socket = path.dial()
      const name = await reached(socket)
      if (name === undefined) counts.refused += 1
      else counts.reached += 1
      socket.destroy()
    }
  }
  const callers = Array.from({ length: 8 }, load)
  for (let round = 1; round <= 8; round++) {
    const [old, ...others] = pods
    if (!old) throw new Error('there are pods')
    pods = [...others, await path.startPod(4 + round)]
    // The worst order: the application stops first, its sidecar next, and only then does the directory say so.
    old.behaviour = 'refuses'
    await delay(round % 2 === 0 ? 100 : 5)
    await (round % 2 === 0 ? old.kill() : old.drain())
    await delay(20)
    path.setEndpoints(...pods)
    await delay(50)
  }
  stopping.abort()
  await Promise.all(callers)
  const retries = path.metric('postern_retries_total')
  t.comment(`${counts.reached} connections, ${retries} went on to another pod`)
  t.equal(counts.refused, 0)
  t.ok(counts.reached > 200)
  t.ok(retries >= 8, 'control: each of these would have been refused')
  t.equal(path.metric('postern_endpoints_ejected'), 0, 'who has gone is not counted as ejected')
})

import t from 'tap'
import {
  Balancer,
  type Candidate,
  type HealthEvent,
  type Member,
} from '../../../../proxy/resolve/balancer.ts'
import { ANSWERED, type Report, UNDECIDED } from '../../../../proxy/resolve/endpoint-health.ts'

const FAILED: Report = { kind: 'failed', code: 'PSTN_PEER_UNREACHABLE' }

const candidate = (name: string, isNear = false): Candidate => ({
  key: name,
  endpoint: name,
  isNear,
  route: { kind: 'plain', address: name, port: 80 },
})

/** A generator of numbers in [0, 1) that repeats: Park and Miller's. */
function seeded(seed = 42): () => number {
  let state = seed
  return () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
}

function balanced(candidates: readonly Candidate[], random = seeded()) {
  const events: HealthEvent[] = []
  const time = { now: 0 }
  const balancer = new Balancer({ now: () => time.now, random, observe: event => events.push(event) })
  balancer.update(candidates)
  const take = (...tried: Member[]): Member => {
    const member = balancer.take(tried)
    if (!member) throw new Error('there is no endpoint')
    return member
  }
  const find = (endpoint: string): Member => {
    for (let n = 0; n < 10_000; n++) {
      const member = take()
      if (member.endpoint === endpoint) return member
    }
    throw new Error(`${endpoint} is never taken`)
  }
  /** How often each was taken of so many times. */
  const counts = (times: number, hold = false) => {
    const taken: Record<string, number> = {}
    for (let n = 0; n < times; n++) {
      const member = take()
      taken[member.endpoint] = (taken[member.endpoint] ?? 0) + 1
      if (hold) member.open += 1
    }
    return taken
  }
  return { balancer, events, time, take, find, counts }
}

const few = ['a', 'b', 'c', 'd'].map(name => candidate(name))

t.test('of two random endpoints the one with fewer open streams is taken', async t => {
  const numbers: number[] = []
  const { take, find } = balanced(few.slice(0, 3), () => numbers.shift() ?? 0)
  const draw = (...next: number[]) => {
    numbers.splice(0, numbers.length, ...next)
    return take().endpoint
  }
  for (const [name, open, first] of [
    ['a', 5, 0],
    ['b', 1, 0.4],
    ['c', 9, 0.9],
  ] as const) {
    numbers.splice(0, numbers.length, first)
    find(name).open = open
  }
  t.equal(draw(0, 0), 'b', 'first and second')
  t.equal(draw(0, 0.9), 'a', 'first and third')
  t.equal(draw(0.9, 0.9), 'b', 'third and second')
})

t.test('streams that stay open spread evenly', async t => {
  const { counts } = balanced(Array.from({ length: 10 }, (_, n) => candidate(`e${n}`)))
  const taken = Object.values(counts(1000, true))
  t.equal(taken.length, 10)
  t.ok(
    taken.every(count => count > 80 && count < 120),
    taken.join(),
  )
})

t.test('endpoints of our own zone are taken as long as one of them is in', async t => {
  const { balancer, find, counts } = balanced([candidate('near-1', true), candidate('near-2', true), ...few])
  t.same(Object.keys(counts(100)).sort(), ['near-1', 'near-2'])
  balancer.report(find('near-1'), FAILED)
  t.same(Object.keys(counts(100)), ['near-2'])
  balancer.report(find('near-2'), FAILED)
  t.same(Object.keys(counts(1000)).sort(), ['a', 'b', 'c', 'd'])
})

t.test('a zone with few endpoints is not drowned: what is far more loaded spills to the others', async t => {
  const { counts } = balanced([candidate('near', true), candidate('far-1'), candidate('far-2')])
  t.same(counts(8, true), { near: 8 }, 'a small load stays in the zone')
  const all = counts(492, true)
  const [near = 0, far1 = 0, far2 = 0] = [all.near, all['far-1'], all['far-2']]
  t.ok(near > far1 && near > far2 && near < 300, JSON.stringify(all))
})

t.test('an endpoint that cannot be opened is out until a probe opens it', async t => {
  const { balancer, events, time, find, take, counts } = balanced(few)
  const b = find('b')
  balancer.report(b, FAILED)
  t.match(events, [{ kind: 'ejected', endpoint: 'b', code: 'PSTN_PEER_UNREACHABLE', failures: 1 }])
  t.notOk(counts(200).b)
  time.now = 1_000
  t.equal(take(), b, 'the first connection after that probes it')
  t.notOk(counts(200).b, 'the others do not wait for its outcome')
  balancer.report(b, FAILED)
  t.match(events[1], { kind: 'ejected', failures: 2 })
  time.now = 1_999
  t.notOk(counts(200).b, 'it is out for at least another second')
  time.now = 3_000
  t.equal(take(), b)
  balancer.report(b, ANSWERED)
  t.match(events[2], { kind: 'returned', endpoint: 'b' })
  t.equal(events.length, 3)
  t.ok(counts(200).b)
})

t.test('a probe that was ended by us is left to the next connection', async t => {
  const { balancer, events, time, find, take } = balanced(few)
  const b = find('b')
  balancer.report(b, FAILED)
  time.now = 1_000
  t.equal(take(), b)
  balancer.report(b, UNDECIDED)
  t.equal(take(), b)
  t.equal(events.length, 1)
})

t.test('more than half are never out: then all are used, those that open first', async t => {
  const { balancer, find, counts } = balanced(few)
  const failing = ['a', 'b', 'c'].map(find)
  balancer.report(failing[0] as Member, FAILED)
  balancer.report(failing[1] as Member, FAILED)
  t.same(Object.keys(counts(200)).sort(), ['c', 'd'])
  balancer.report(failing[2] as Member, FAILED)
  const taken = counts(1000)
  t.ok(['a', 'b', 'c'].every(name => (taken[name] ?? 0) > 50))
  t.ok((taken.d ?? 0) > 400, 'half of all pairs hold it')
})

t.test('another try takes one that was not tried, of those that are in while there are any', async t => {
  const { balancer, find } = balanced(few)
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(find) as [Member, Member, Member, Member]
  balancer.report(a, FAILED)
  for (let n = 0; n < 50; n++) t.notOk([a, b].includes(balancer.take([b]) as Member))
  t.equal(balancer.take([b, c]), d)
  t.equal(balancer.take([b, c, d]), a, 'rather one that is out than none')
  t.equal(balancer.take([a, b, c, d]), undefined)
})

t.test('streams and health outlive an update, and streams outlive their endpoint', async t => {
  const { balancer, events, find, counts } = balanced(few)
  const [a, b] = [find('a'), find('b')]
  a.open = 3
  balancer.report(b, FAILED)
  balancer.update([candidate('a'), candidate('b'), candidate('c'), candidate('new')])
  t.notOk(counts(100).a, 'with three streams it is the heavier one')
  a.open = 0
  t.equal(find('a'), a)
  t.same(Object.keys(counts(500)).sort(), ['a', 'c', 'new'])
  balancer.update([candidate('c')])
  t.match(events[1], { kind: 'gone', endpoint: 'b' })
  balancer.report(b, ANSWERED)
  balancer.report(a, FAILED)
  t.same(counts(10), { c: 10 }, 'what is said about one that has gone changes nothing')
  t.equal(events.length, 2)
})

t.test('an endpoint’s address that another pod got begins anew', async t => {
  const { balancer, find } = balanced(few)
  balancer.report(find('a'), FAILED)
  balancer.update([...few.slice(1), { ...candidate('a'), key: 'a of another pod' }])
  t.match(find('a').health, { kind: 'in' })
})

t.test('a Service with affinity keeps to its endpoint until that is out, gone or long ago', async t => {
  const { balancer, time } = balanced(few)
  const stuck = () => balancer.take([], 10_000)
  const first = stuck() as Member
  for (let n = 0; n < 20; n++) t.equal(stuck(), first)
  time.now = 9_000
  t.equal(stuck(), first)
  time.now = 18_000
  t.equal(stuck(), first, 'each connection begins the time anew')
  balancer.report(first, FAILED)
  const second = stuck() as Member
  t.not(second, first)
  for (let n = 0; n < 20; n++) t.equal(stuck(), second)
  balancer.update(few.filter(({ key }) => key !== second.key))
  t.ok(stuck())
})

t.test('a probe that is due takes nobody from the endpoint that affinity keeps to', async t => {
  const { balancer, events, time } = balanced(few)
  const stuck = () => balancer.take([], 3_600_000)
  const failed = stuck() as Member
  balancer.report(failed, FAILED)
  const kept = stuck() as Member
  time.now = 2_000
  for (let n = 0; n < 20; n++) t.equal(stuck(), kept)
  balancer.update(few.filter(({ key }) => key !== kept.key))
  t.equal(stuck(), failed, 'without one to keep to, it is probed')
  balancer.report(failed, ANSWERED)
  t.match(events.at(-1), { kind: 'returned' })
})

t.test('a Service that no longer asks for affinity is balanced at once', async t => {
  const { balancer, counts } = balanced(few)
  balancer.take([], 3_600_000)
  t.same(Object.keys(counts(200)).sort(), ['a', 'b', 'c', 'd'])
})

t.test('where a whole zone is out and most of the Service, others are taken', async t => {
  const near = ['near-1', 'near-2', 'near-3'].map(name => candidate(name, true))
  const { balancer, find, counts } = balanced([...near, candidate('far')])
  for (const member of near.map(({ key }) => find(key))) balancer.report(member, FAILED)
  t.same(counts(200), { far: 200 })
})

t.test('the cost of a choice does not grow with the Service', async t => {
  const cost = (size: number): number => {
    const { balancer, take } = balanced(
      Array.from({ length: size }, (_, n) => candidate(`e${n}`, n % 3 === 0)),
    )
    balancer.report(take(), FAILED)
    const times = Array.from({ length: 5 }, () => {
      const started = performance.now()
      for (let n = 0; n < 20_000; n++) take()
      return performance.now() - started
    })
    return Math.min(...times)
  }
  const [small, large] = [cost(4), cost(10_000)]
  t.comment(`20,000 choices: ${small.toFixed(2)} ms of 4, ${large.toFixed(2)} ms of 10,000`)
  t.ok(large < small * 20, 'a look at each would be a thousand times as much')
})

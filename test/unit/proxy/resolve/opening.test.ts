import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { Balancer, type HealthEvent, type Member } from '../../../../proxy/resolve/balancer.ts'
import { type Opening, open } from '../../../../proxy/resolve/opening.ts'
import type { Route } from '../../../../proxy/resolve/route.ts'
import { RefusedByPeer } from '../../../../proxy/tunnel/refused-by-peer.ts'
import { unless } from '../../../../shared/deadline.ts'
import { type Code, PosternError } from '../../../../shared/errors.ts'

const never = new AbortController().signal

const candidate = (name: string) => ({
  key: name,
  endpoint: `${name}:80`,
  isNear: false,
  route: { kind: 'plain', address: name, port: 80 } satisfies Route,
})

/** A code alone is what we find out; behind `says` what the peer does. */
type Behaviour = 'opens' | 'hangs' | Code | `says ${Code}`

/** A Service of endpoints that behave as told, and what became of one opening after the other. */
function service(behaviour: Record<string, Behaviour>, more: Partial<Opening<string>> = {}) {
  const events: HealthEvent[] = []
  const balancer = new Balancer({
    now: performance.now.bind(performance),
    random: () => 0,
    observe: event => events.push(event),
  })
  balancer.update(Object.keys(behaviour).map(candidate))
  const tries: string[] = []
  const retries: Code[] = []
  const to = { kind: 'service', balancer, stickyMs: 0 } as const
  const opening: Opening<string> = {
    signal: never,
    attempt: async (route, signal) => {
      const name = route.kind === 'plain' ? route.address : ''
      const how = behaviour[name]
      if (how === 'hangs') await unless(signal, new Promise(() => {}))
      if (how === 'opens') return name
      const [code, said] = (how ?? '').split(' ').reverse()
      throw new (said ? RefusedByPeer : PosternError)(code as Code, name)
    },
    onTry: (endpoint, count) => {
      tries[count] = endpoint
    },
    onRetry: ({ code }) => retries.push(code),
    isWanted: () => true,
    tryMs: 50,
    ...more,
  }
  return { balancer, events, tries, retries, open: () => open(to, opening) }
}

const cases: readonly [string, Record<string, Behaviour>, string[], string | Code][] = [
  ['the first that opens is taken', { a: 'opens', b: 'opens' }, ['a:80'], 'a'],
  [
    'another follows one that does not answer',
    { a: 'PSTN_PEER_UNREACHABLE', b: 'opens' },
    ['a:80', 'b:80'],
    'b',
  ],
  [
    'and another one whose application does not listen',
    { a: 'says PSTN_APP_UNREACHABLE', b: 'PSTN_TLS_FAILED', c: 'opens' },
    ['a:80', 'b:80', 'c:80'],
    'c',
  ],
  [
    'a refusal by policy is the answer: it is not asked elsewhere',
    { a: 'says PSTN_POLICY_DENIED', b: 'opens' },
    ['a:80'],
    'PSTN_POLICY_DENIED',
  ],
  [
    'what we lack ourselves, others cannot give',
    { a: 'PSTN_CERT_EXPIRED', b: 'opens' },
    ['a:80'],
    'PSTN_CERT_EXPIRED',
  ],
  ['nor before there is a certificate', { a: 'PSTN_NOT_READY', b: 'opens' }, ['a:80'], 'PSTN_NOT_READY'],
  [
    'one that has no policy yet is another matter',
    { a: 'says PSTN_NOT_READY', b: 'opens' },
    ['a:80', 'b:80'],
    'b',
  ],
  [
    'one that does not accept our certificate may be wrong: another is asked',
    { a: 'says PSTN_PEER_UNTRUSTED', b: 'opens' },
    ['a:80', 'b:80'],
    'b',
  ],
  [
    'two that do not are right: no third is asked',
    { a: 'says PSTN_PEER_EXPIRED', b: 'says PSTN_PEER_UNTRUSTED', c: 'opens' },
    ['a:80', 'b:80'],
    'PSTN_PEER_UNTRUSTED',
  ],
  [
    'three tries are all',
    {
      a: 'PSTN_TLS_FAILED',
      b: 'PSTN_TLS_FAILED',
      c: 'PSTN_PEER_UNREACHABLE',
      d: 'opens',
    },
    ['a:80', 'b:80', 'c:80'],
    'PSTN_PEER_UNREACHABLE',
  ],
  [
    'no endpoint is tried twice',
    { a: 'PSTN_TLS_FAILED', b: 'says PSTN_APP_UNREACHABLE' },
    ['a:80', 'b:80'],
    'PSTN_APP_UNREACHABLE',
  ],
]
for (const [name, behaviour, tried, result] of cases) {
  t.test(name, async t => {
    const { open, tries, retries } = service(behaviour)
    if (result.startsWith('PSTN_')) await t.rejects(open(), { code: result })
    else t.equal((await open()).remote, result)
    t.same(tries, tried)
    t.equal(retries.length, tried.length - 1)
  })
}

t.test(
  'one that hangs costs a moment while there are others, the last gets all the time it needs',
  async t => {
    const { open, tries, events } = service({ a: 'hangs', b: 'opens' })
    const started = performance.now()
    t.equal((await open()).remote, 'b')
    t.ok(performance.now() - started < 1_000)
    t.same(tries, ['a:80', 'b:80'])
    t.match(events, [{ kind: 'ejected', code: 'PSTN_DESTINATION_UNREACHABLE' }])
    const over = new AbortController()
    const alone = service({ a: 'hangs' }, { signal: over.signal }).open()
    const early = await Promise.race([alone.catch(() => 'given up'), delay(200, 'waits')])
    t.equal(early, 'waits')
    over.abort(new PosternError('PSTN_DRAINING', 'over'))
    await t.rejects(alone, { code: 'PSTN_DRAINING' })
  },
)

t.test('an endpoint that is alone is never ejected', async t => {
  const { open, events } = service({ a: 'PSTN_PEER_UNREACHABLE' })
  for (let n = 0; n < 5; n++) await t.rejects(open(), { code: 'PSTN_PEER_UNREACHABLE' })
  t.same(events, [])
})

const ours: readonly Behaviour[] = ['PSTN_NOT_READY', 'PSTN_CERT_EXPIRED', 'says PSTN_PEER_UNTRUSTED']
for (const how of ours) {
  t.test(`where every endpoint ends in ${how}, the fault is ours and none is ejected`, async t => {
    const { open, events } = service({ a: how, b: how, c: how, d: how })
    for (let n = 0; n < 5; n++) await t.rejects(open(), { code: how.split(' ').at(-1) })
    t.same(events, [])
  })
}

t.test('who does not accept our certificate is ejected once another does', async t => {
  const { open, events } = service({ a: 'says PSTN_PEER_UNTRUSTED', b: 'opens', c: 'opens' })
  t.equal((await open()).remote, 'b')
  t.match(events, [{ kind: 'ejected', endpoint: 'a:80', code: 'PSTN_PEER_UNTRUSTED' }])
  t.not((await open()).remote, 'a')
})

t.test('what another fails by settles nothing about one that does not accept our certificate', async t => {
  const { open, events } = service({ a: 'says PSTN_PEER_EXPIRED', b: 'PSTN_PEER_UNREACHABLE' })
  await t.rejects(open(), { code: 'PSTN_PEER_UNREACHABLE' })
  t.match(events, [{ endpoint: 'b:80' }])
  t.equal(events.length, 1)
})

t.test('a probe that ends by a fault of our own is made again', async t => {
  const behaviour: Record<string, Behaviour> = { a: 'PSTN_PEER_UNREACHABLE', b: 'opens', c: 'opens' }
  const { open, events } = service(behaviour)
  t.equal((await open()).remote, 'b')
  for (const name of 'abc') behaviour[name] = 'says PSTN_PEER_EXPIRED'
  await delay(600)
  await t.rejects(open(), { code: 'PSTN_PEER_EXPIRED' })
  behaviour.a = 'opens'
  t.equal((await open()).remote, 'a')
  t.match(events, [{ kind: 'ejected' }, { kind: 'returned', endpoint: 'a:80' }])
  t.equal(events.length, 2)
})

t.test('the end of the sidecar says nothing about the endpoint that was being opened', async t => {
  const over = new AbortController()
  const { open, events, tries } = service({ a: 'hangs', b: 'opens' }, { signal: over.signal, tryMs: 10_000 })
  const opening = open()
  over.abort(new PosternError('PSTN_DRAINING', 'over'))
  await t.rejects(opening, { code: 'PSTN_DRAINING' })
  t.same(events, [])
  t.same(tries, ['a:80'])
})

t.test('nobody is called for an application that has hung up', async t => {
  const { open, tries } = service({ a: 'PSTN_TLS_FAILED', b: 'opens' }, { isWanted: () => false })
  await t.rejects(open(), { code: 'PSTN_TLS_FAILED' })
  t.same(tries, ['a:80'])
})

t.test('a stream counts from its try to its end', async t => {
  const { open, balancer } = service({ a: 'opens', b: 'PSTN_TLS_FAILED' })
  const [a, b] = [balancer.take([]), balancer.take([balancer.take([]) as Member])] as [Member, Member]
  t.same([a.endpoint, b.endpoint], ['a:80', 'b:80'])
  {
    using one = await open()
    t.equal(one.remote, 'a')
    t.same([a.open, b.open], [1, 0])
    {
      using two = await open()
      t.equal(two.remote, 'a', 'b was lighter, but does not open')
      t.same([a.open, b.open], [2, 0])
    }
    t.same([a.open, b.open], [1, 0])
  }
  t.same([a.open, b.open], [0, 0])
})

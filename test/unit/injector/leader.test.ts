import t, { type Test } from 'tap'
import { startEmbeddedCluster } from '../../../embedded/cluster/server.ts'
import { decideLease, type LeadOptions, lead, observe } from '../../../injector/leader.ts'
import { systemClock } from '../../../shared/clock.ts'
import { connectKube, type Kube } from '../../../shared/kube/rest.ts'
import { createLogger } from '../../../shared/log.ts'

const LEASES = '/apis/coordination.k8s.io/v1/namespaces/postern-system/leases'
const timing = { leaseSeconds: 1, renewDeadlineMs: 700, retryMs: 100 }

t.test('whose lease it is', async t => {
  const lease = (holderIdentity?: string, renewTime?: string) => ({
    spec: {
      leaseDurationSeconds: 15,
      ...(holderIdentity && { holderIdentity }),
      ...(renewTime && { renewTime }),
    },
  })
  const held = lease('other', '2020-01-01T00:00:00.000000Z')
  const table: [string, Parameters<typeof decideLease>, ReturnType<typeof decideLease>][] = [
    [
      'a lease that was never held is free',
      [{}, 'me', { state: '', atMs: 0 }, 0],
      { kind: 'take', transition: true },
    ],
    [
      'a released lease is free at once',
      [lease(''), 'me', { state: '', atMs: 0 }, 0],
      { kind: 'take', transition: true },
    ],
    [
      'our own lease is renewed, however old',
      [lease('me'), 'me', { state: '', atMs: 0 }, 1e9],
      { kind: 'take', transition: false },
    ],
    [
      'a lease seen to change less than its duration ago is respected, whatever its renewTime says',
      [held, 'me', { state: '', atMs: 1_000 }, 15_999],
      { kind: 'wait', holder: 'other' },
    ],
    [
      'a lease not seen to change for its duration has expired',
      [held, 'me', { state: '', atMs: 1_000 }, 16_000],
      { kind: 'take', transition: true },
    ],
  ]
  for (const [name, args, expected] of table) t.same(decideLease(...args), expected, name)
  const first = observe(undefined, held, 5)
  t.equal(observe(first, held, 9), first, 'an unchanged lease keeps the time at which it was first seen')
  t.equal(observe(first, lease('third'), 9).atMs, 9, 'a changed one starts anew')
})

const untilAborted = (signal: AbortSignal) =>
  new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()))

type Candidate = { readonly leading: boolean; readonly terms: number; stop(): Promise<void>; kube: Kube }

async function cluster(t: Test) {
  const embedded = await startEmbeddedCluster()
  t.teardown(() => embedded[Symbol.asyncDispose]())
  const connect = () => connectKube({ server: embedded.url, token: embedded.access.adminToken })
  await connect().create('/api/v1/namespaces', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'postern-system' },
  })
  const candidate = (
    identity: string,
    change: (kube: Kube) => Kube = kube => kube,
    work?: LeadOptions['onLeading'],
  ) => {
    const end = new AbortController()
    const kube = connect()
    const state = { leading: false, terms: 0 }
    const onLeading = async (signal: AbortSignal) => {
      state.leading = true
      state.terms += 1
      signal.addEventListener('abort', () => {
        state.leading = false
      })
      await (work ?? untilAborted)(signal)
    }
    const running = lead(
      change(kube),
      {
        namespace: 'postern-system',
        name: 'postern-injector',
        identity,
        onLeading,
        log: createLogger('test', 'error'),
        clock: systemClock,
        timing,
      },
      end.signal,
    )
    const stop = async () => {
      end.abort()
      await running
    }
    t.teardown(stop)
    return Object.assign(state, { stop, kube }) as Candidate
  }
  return { candidate, kube: connect() }
}

const eventually = async (test: () => boolean, ms = 5_000) => {
  const until = performance.now() + ms
  while (!test()) {
    if (performance.now() > until) throw new Error('not in time')
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
/** A server that never answers. */
const silence = (signal: AbortSignal | undefined) =>
  new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)))
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

t.test('one of two leads; the other follows at once when the first is stopped', async t => {
  const { candidate, kube } = await cluster(t)
  const a = candidate('a')
  await eventually(() => a.leading)
  const b = candidate('b')
  await pause(1_500)
  t.ok(a.leading, 'the leader renews past the lease duration')
  t.notOk(b.leading)
  await a.stop()
  t.notOk(a.leading)
  const { spec } = await kube.get<{ spec: { holderIdentity: string } }>(`${LEASES}/postern-injector`)
  t.equal(spec.holderIdentity, '', 'the lease was released')
  await eventually(() => b.leading, 1_000)
})

t.test('a leader that loses the API server stops leading before another may take over', async t => {
  const { candidate } = await cluster(t)
  let cut = false
  const unreliable = (kube: Kube): Kube => ({
    ...kube,
    [Symbol.dispose]: () => kube[Symbol.dispose](),
    get: (path, signal) => (cut ? silence(signal) : kube.get(path, signal)),
  })
  const a = candidate('a', unreliable)
  await eventually(() => a.leading)
  const b = candidate('b')
  cut = true
  const overlaps: boolean[] = []
  const watch = setInterval(() => overlaps.push(a.leading && b.leading), 5)
  t.teardown(() => clearInterval(watch))
  await eventually(() => b.leading)
  t.notOk(a.leading)
  t.notOk(overlaps.includes(true), 'never two leaders')
})

t.test('a leader whose task fails gives the lease up', async t => {
  const { candidate } = await cluster(t)
  const a = candidate('a', undefined, () => Promise.reject(new Error('task broke')))
  await eventually(() => a.terms > 0)
  const b = candidate('b')
  await eventually(() => b.leading)
  t.ok(b.leading)
})

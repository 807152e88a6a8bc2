import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Credential } from '../../../../proxy/credentials/credential.ts'
import { csrCredentialSource, type IssuanceEvent } from '../../../../proxy/credentials/csr-source.ts'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import { openTrustStore, type TrustStore } from '../../../../proxy/credentials/trust.ts'
import { clockSkew } from '../../../../shared/clock-skew.ts'
import { KubeError } from '../../../../shared/kube/rest.ts'
import { live } from '../../../../shared/live.ts'
import type { Renewal } from '../../../../shared/renewal-order.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { buildCsrInfo, parseCsr } from '../../../../shared/x509/csr.ts'
import { type TestAuthority, testAuthority } from '../../../support/certificates.ts'
import { scratchDirectory } from '../../../support/scratch.ts'
import { type ScriptedApi, type StoredCsr, scriptedApi } from '../../../support/scripted-api.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const IDENTITY = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/cart').id
const OTHER = 'spiffe://cluster.local/ns/shop/sa/other'
const POD = { podUid: '5f2a-11', username: 'system:serviceaccount:shop:cart' }
const SECOND = 1_000
const BACKDATE_MS = 300 * SECOND

const ours = await testAuthority('cluster.local')
const foreign = await testAuthority('cluster.local')

/** A pod in an API server's view, with a signer that answers at once. */
async function pod(t: Test, { lifeMs = 3_600 * SECOND } = {}) {
  const api = await scriptedApi(POD)
  const clock = steppingClock()
  const dir = scratchDirectory(t)
  t.teardown(() => api[Symbol.asyncDispose]())
  const events: IssuanceEvent[] = []
  const sign =
    (
      authority: TestAuthority,
      { identity = IDENTITY as string, ageMs = 0, publicKey = undefined as Buffer | undefined } = {},
    ) =>
    async ({ spec }: StoredCsr): Promise<StoredCsr['status']> => {
      const notBefore = new Date(clock.now() - BACKDATE_MS - ageMs)
      const notAfter = new Date(clock.now() + lifeMs - ageMs)
      const spki = publicKey ?? parseCsr(Buffer.from(spec.request, 'base64').toString()).spki
      const { chain } = await authority.issue({ identity, notBefore, notAfter, publicKey: spki })
      return { conditions: [{ type: 'Approved' }], certificate: Buffer.from(chain).toString('base64') }
    }
  api.trust = { 'trust-domain': 'cluster.local', 'roots.pem': ours.root }
  api.answer = sign(ours)
  let trust: TrustStore | undefined
  const early = { order: live<Renewal | undefined>(undefined), revoked: live<string | undefined>(undefined) }
  /** The credentials of a process that starts now, until there are `count`, or one was `stop`ped. */
  const run = async (count: number, observe: (event: IssuanceEvent, stop: () => void) => void = () => {}) => {
    const stopping = new AbortController()
    const volume = openStateVolume(dir, error => t.fail(error.message))
    trust = await openTrustStore(api.kube, 'cluster.local', volume)
    const source = csrCredentialSource({
      ...POD,
      kube: api.kube,
      clock,
      signerName: 'postern.dev/workload',
      lifetimeSeconds: 60,
      timeoutMs: 10 * SECOND,
      identity: IDENTITY,
      trust,
      volume,
      skew: clockSkew(clock),
      early,
      random: () => 0.5,
      observe: event => {
        events.push(event)
        observe(event, () => stopping.abort())
      },
    })
    const credentials: Credential[] = []
    for await (const credential of source(stopping.signal)) {
      credentials.push(credential)
      if (credentials.length === count) break
    }
    return credentials
  }
  const failures = () => events.flatMap(event => (event.kind === 'failed' ? [event.error.code] : []))
  return { api, clock, dir, events, early, sign, run, failures, trust: () => trust }
}

const requestOf = (api: ScriptedApi, name: string) => {
  const csr = api.requests.get(name)
  return parseCsr(Buffer.from(csr?.spec.request ?? '', 'base64').toString())
}

t.test('the first certificate is asked for in the one canonical form and kept in memory alone', async t => {
  const { api, dir, run } = await pod(t)
  const [credential] = await run(1)
  t.match(credential, { generation: 1, identity: IDENTITY })
  t.same(api.created, ['postern-5f2a-11-0'])
  const { info, spki } = requestOf(api, 'postern-5f2a-11-0')
  t.same(info, buildCsrInfo(spki, IDENTITY))
  t.match(api.requests.get('postern-5f2a-11-0')?.spec, {
    signerName: 'postern.dev/workload',
    expirationSeconds: 600,
    usages: ['digital signature', 'server auth', 'client auth'],
  })
  t.equal(statSync(join(dir, 'credential.json')).mode & 0o777, 0o600)
  t.match(JSON.parse(readFileSync(join(dir, 'credential.json'), 'utf8')), { key: credential?.key, slot: 0 })
  t.notOk(statSync(join(dir, 'pending.json'), { throwIfNoEntry: false }), 'nothing is pending')
})

t.test(
  'a 30-second leaf backdated by five minutes is renewed calmly, with a new key and name each time',
  async t => {
    const { api, clock, run } = await pod(t, { lifeMs: 30 * SECOND })
    const credentials = await run(10, event => {
      if (event.kind === 'issued') api.requests.delete(event.name) // as the injector's cleanup does
    })
    t.same(
      credentials.map(({ generation }) => generation),
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    )
    t.equal(new Set(credentials.map(({ key }) => key)).size, 10)
    t.same(api.created.map(name => name.at(-1)).join(''), '0123456701')
    const renewals = clock.sleeps.filter(ms => ms > 5 * SECOND)
    t.ok(renewals.every(ms => ms >= 9_900 && ms <= 15_000))
  },
)

t.test('ten years where ten minutes were asked for are renewed after minutes', async t => {
  const { clock, run } = await pod(t, { lifeMs: 315_360_000 * SECOND })
  const began = clock.monotonic()
  const [first] = await run(2)
  t.ok((first?.notAfter.getTime() ?? 0) - clock.now() > 300_000_000 * SECOND, 'it is taken as it is')
  t.ok(clock.monotonic() - began <= 310 * SECOND)
})

t.test('a name that is taken by another request is passed over', async t => {
  const { api, run } = await pod(t)
  const taken = (name: string, username: string, request: string) =>
    api.requests.set(name, {
      metadata: { name },
      spec: {
        request,
        signerName: 'postern.dev/workload',
        expirationSeconds: 600,
        usages: [],
        username,
        extra: { 'authentication.kubernetes.io/pod-uid': [POD.podUid] },
      },
      status: {},
    })
  taken('postern-5f2a-11-0', 'system:serviceaccount:shop:other', 'eA==')
  taken('postern-5f2a-11-1', POD.username, 'eA==')
  await run(1)
  t.same(api.created, ['postern-5f2a-11-2'], 'neither another’s nor one whose key is lost')
})

t.test('when all eight names are taken it says so and waits until one is free', async t => {
  const { api, run, failures } = await pod(t)
  for (let slot = 0; slot < 8; slot++) {
    const name = `postern-5f2a-11-${slot}`
    const spec = { request: 'eA==', signerName: 'x', expirationSeconds: 600, usages: [] }
    api.requests.set(name, { metadata: { name }, spec, status: {} })
  }
  await run(1, event => {
    if (event.kind === 'failed' && event.failures === 2) api.requests.delete('postern-5f2a-11-6')
  })
  t.same(failures(), ['PSTN_CSR_NAME_TAKEN', 'PSTN_CSR_NAME_TAKEN'])
  t.same(api.created, ['postern-5f2a-11-6'])
})

t.test('a pod that is denied over and over keeps saying why, also when its names are used up', async t => {
  const { api, events, run, failures, sign } = await pod(t)
  api.answer = async () => ({ conditions: [{ type: 'Denied', reason: 'pod-live', message: 'it has ended' }] })
  await run(1, event => {
    if (event.kind !== 'failed' || event.failures !== 10) return
    api.answer = sign(ours)
    api.requests.delete('postern-5f2a-11-3')
  })
  t.same(failures(), new Array(10).fill('PSTN_CSR_DENIED'))
  t.match(events[9], {
    error: { message: /^postern-5f2a-11-7: pod-live: it has ended; all 8 names .* taken$/ },
  })
  t.equal(api.created.at(-1), 'postern-5f2a-11-3', 'and goes on as soon as a name is free')
})

t.test('a restart resumes the request under way instead of making another', async t => {
  const { api, sign, run, failures } = await pod(t)
  api.answer = async () => undefined
  t.same(await run(1, (_, stop) => stop()), [], 'the first process ends while it waits')
  t.same(failures(), ['PSTN_CSR_TIMEOUT'])
  const { spki } = requestOf(api, 'postern-5f2a-11-0')
  api.answer = sign(ours)
  const [credential] = await run(1)
  t.same(api.created, ['postern-5f2a-11-0'])
  t.same(requestOf(api, 'postern-5f2a-11-0').spki, spki)
  t.ok(credential)
})

t.test('a restart during an outage uses the stored certificate at once', async t => {
  const { api, events, run } = await pod(t)
  const [before] = await run(1)
  api.outage = { status: 503, message: 'down' }
  const [after] = await run(1)
  t.equal(after?.serial, before?.serial)
  t.match(events.at(-1), { kind: 'restored' })
})

t.test('a stored certificate that is damaged, expired or another’s is not used', async t => {
  const damage: readonly [string, (dir: string) => void, number][] = [
    ['cut short', dir => writeFileSync(join(dir, 'credential.json'), '{"key":"-----BEG'), 0],
    ['without fields', dir => writeFileSync(join(dir, 'credential.json'), '{}'), 0],
    [
      'with a damaged key',
      dir => writeFileSync(join(dir, 'credential.json'), '{"key":"x","chain":"y","receivedAt":1,"slot":0}'),
      0,
    ],
    ['expired', () => {}, 3_700 * SECOND],
  ]
  for (const [name, spoil, laterMs] of damage) {
    const { clock, dir, events, run } = await pod(t)
    const [before] = await run(1)
    spoil(dir)
    clock.advance(laterMs)
    const [after] = await run(1)
    t.not(after?.serial, before?.serial, name)
    t.same(
      events.map(({ kind }) => kind),
      ['issued', 'issued'],
      name,
    )
  }
})

t.test('a damaged request under way is replaced', async t => {
  const { dir, run } = await pod(t)
  writeFileSync(join(dir, 'pending.json'), JSON.stringify({ key: 'x', request: 'y', slot: 3 }))
  t.equal((await run(1)).length, 1)
})

t.test(
  'a denied or failed request gives its reason and is retried with a new key under a new name',
  async t => {
    for (const [type, code] of [
      ['Denied', 'PSTN_CSR_DENIED'],
      ['Failed', 'PSTN_CSR_FAILED'],
    ] as const) {
      const { api, events, sign, run } = await pod(t)
      api.answer = async csr =>
        csr.metadata.name.endsWith('-0')
          ? { conditions: [{ type, reason: 'PodUid', message: 'no such pod' }] }
          : sign(ours)(csr)
      await run(1)
      t.match(events[0], {
        kind: 'failed',
        error: { code, message: 'postern-5f2a-11-0: PodUid: no such pod' },
      })
      t.same(api.created, ['postern-5f2a-11-0', 'postern-5f2a-11-1'])
      t.notSame(requestOf(api, 'postern-5f2a-11-0').spki, requestOf(api, 'postern-5f2a-11-1').spki)
    }
  },
)

t.test('a certificate that does not fit is thrown away, with the reason', async t => {
  const stranger = parseCsr(Buffer.from(await strangersRequest(t), 'base64').toString()).spki
  const cases = [
    ['for another key', 'PSTN_CSR_ANSWER_INVALID', { publicKey: stranger }, ours],
    ['for another identity', 'PSTN_CSR_ANSWER_INVALID', { identity: OTHER }, ours],
    ['of a CA that is not trusted', 'PSTN_CSR_ANSWER_INVALID', {}, foreign],
    ['already expired', 'PSTN_CSR_ANSWER_INVALID', { ageMs: 7_200 * SECOND }, ours],
    ['of the future', 'PSTN_CLOCK_SKEW', { ageMs: -7_200 * SECOND }, ours],
  ] as const
  for (const [name, code, flaw, authority] of cases) {
    const { api, failures, sign, run } = await pod(t)
    api.answer = csr => (csr.metadata.name.endsWith('-0') ? sign(authority, flaw)(csr) : sign(ours)(csr))
    await run(1)
    t.same(failures(), [code], name)
    t.same(api.created, ['postern-5f2a-11-0', 'postern-5f2a-11-1'], name)
  }
})

async function strangersRequest(t: Test): Promise<string> {
  const { api, run } = await pod(t)
  await run(1)
  return api.requests.get('postern-5f2a-11-0')?.spec.request ?? ''
}

t.test('an outage at renewal keeps the valid certificate, backs off and recovers', async t => {
  const { api, clock, events, run } = await pod(t)
  const issued = await run(2, event => {
    if (event.kind === 'issued') api.outage = { status: 503, message: 'etcd is down' }
    if (event.kind === 'failed' && event.failures === 6) api.outage = undefined
  })
  t.equal(issued.length, 2)
  const failed = events.filter(event => event.kind === 'failed')
  t.equal(failed.length, 6)
  t.match(failed[0], { error: { code: 'PSTN_API_UNAVAILABLE', message: /etcd is down/ }, retryMs: 750 })
  t.ok(
    failed.every(({ lifeLeftMs }) => lifeLeftMs > 0),
    'while it was valid',
  )
  t.ok((issued[0]?.notAfter.getTime() ?? 0) > clock.now())
})

t.test('an API server that says "later" while an answer is awaited is asked later', async t => {
  const { api, run, sign, failures } = await pod(t)
  const later = [1, 2]
  api.answer = async csr => {
    if (later.pop()) throw new KubeError(429, 'TooManyRequests', 'Too many requests, please try again later.')
    return sign(ours)(csr)
  }
  await run(1)
  t.same(later, [])
  t.same(failures(), [])
})

t.test('an expired certificate does not end the attempts', async t => {
  const { api, events, run } = await pod(t, { lifeMs: 30 * SECOND })
  await run(2, event => {
    if (event.kind === 'issued') api.outage = { status: 403, message: 'forbidden' }
    if (event.kind === 'failed' && event.lifeLeftMs === 0) api.outage = undefined
  })
  t.match(events.at(-2), { kind: 'failed', lifeLeftMs: 0 })
  t.match(events.at(-1), { kind: 'issued' })
})

t.test('a request that an admission policy refuses is a denial, not an outage', async t => {
  const { api, failures, run } = await pod(t)
  api.outage = { status: 422, message: 'ValidatingAdmissionPolicy denied request: name' }
  await run(1, () => {
    api.outage = undefined
  })
  t.same(failures(), ['PSTN_CSR_DENIED'])
})

t.test('a certificate whose root is trusted no more is replaced at once, and not at its time', async t => {
  const { api, clock, events, sign, run, trust } = await pod(t)
  const start = clock.now()
  const [first, second] = await run(2, event => {
    if (event.kind !== 'issued' || event.credential.generation > 1) return
    // A lost CA, made anew: what is published has no root of before.
    api.trust = { 'trust-domain': 'cluster.local', 'roots.pem': foreign.root }
    api.answer = sign(foreign)
    setImmediate(() => trust()?.adopt([{ trustDomain: 'cluster.local', roots: [foreign.root] }]))
  })
  t.not(second?.serial, first?.serial)
  t.ok(clock.now() - start <= 2 * SECOND, `${clock.now() - start} ms of an hour: spread, and no longer`)
  t.same(
    events.map(({ kind }) => kind),
    ['issued', 'issued'],
  )
})

t.test('a root that is added or another that is dropped disturbs nobody', async t => {
  const { clock, sign, api, run, trust } = await pod(t)
  const start = clock.now()
  const bundle = (...roots: string[]) => [{ trustDomain: 'cluster.local', roots }]
  await run(2, event => {
    if (event.kind !== 'issued' || event.credential.generation > 1) return
    api.trust = { 'trust-domain': 'cluster.local', 'roots.pem': ours.root }
    api.answer = sign(ours)
    setImmediate(() => {
      trust()?.adopt(bundle(ours.root, foreign.root))
      trust()?.adopt(bundle(ours.root))
    })
  })
  t.ok(clock.now() - start > 200 * SECOND, 'renewed at its time')
})

t.test('an untrusted certificate is asked for as often as one that has expired', async t => {
  const { api, events, run, trust } = await pod(t, { lifeMs: 24 * 3_600 * SECOND })
  await run(2, event => {
    if (event.kind === 'issued' && event.credential.generation === 1) {
      api.outage = { status: 503, message: 'down' }
      setImmediate(() => trust()?.adopt([{ trustDomain: 'cluster.local', roots: [foreign.root] }]))
    }
    if (event.kind === 'failed' && event.failures === 9) {
      api.outage = undefined
      trust()?.adopt([{ trustDomain: 'cluster.local', roots: [ours.root] }])
    }
  })
  const retries = events.flatMap(event => (event.kind === 'failed' ? [event.retryMs] : []))
  t.ok(Math.max(...retries) <= 30 * SECOND, String(retries))
})

/** A third of their life is longer. */
const PLANNED_SECONDS = 190

/** When each certificate was issued, in seconds after the first. */
const issuedAt = (times: readonly number[]): number[] =>
  times.map(time => Math.round((time - (times[0] ?? 0)) / SECOND))

t.test('an order to renew is followed once, within its time; then all goes on as planned', async t => {
  const { clock, early, run } = await pod(t)
  const times: number[] = []
  await run(3, event => {
    if (event.kind !== 'issued') return
    times.push(clock.now())
    if (times.length > 1) return
    early.order.set({ before: new Date(clock.now() + 1).toISOString(), withinSeconds: 100 })
  })
  const [, ordered = 0, planned = 0] = issuedAt(times)
  t.ok(ordered > 0 && ordered <= 100, `${ordered} s after the first`)
  t.ok(planned - ordered > PLANNED_SECONDS, `${planned - ordered} s later`)
})

t.test('a clock that is behind the order’s does not renew for ever, nor does a restart', async t => {
  const { clock, early, run } = await pod(t)
  const order = { before: new Date(clock.now() + 86_400 * SECOND).toISOString(), withinSeconds: 0 }
  const times: number[] = []
  const note = (event: IssuanceEvent) => {
    if (event.kind !== 'issued') return
    times.push(clock.now())
    early.order.set(order)
  }
  await run(3, note)
  await run(2, note)
  const [, first = 0, second = 0, afterRestart = 0] = issuedAt(times)
  t.ok(first <= 1, 'followed at once')
  t.ok(second - first > PLANNED_SECONDS, `${second - first} s`)
  t.ok(afterRestart - second > PLANNED_SECONDS, `${afterRestart - second} s`)
  t.equal(times.length, 4)
})

t.test('an order from before the certificate concerns it no more', async t => {
  const { clock, early, run } = await pod(t)
  early.order.set({ before: new Date(clock.now() - SECOND).toISOString(), withinSeconds: 0 })
  const times: number[] = []
  await run(2, event => {
    if (event.kind === 'issued') times.push(clock.now())
  })
  t.ok((issuedAt(times)[1] ?? 0) > PLANNED_SECONDS)
})

t.test('an order that is taken back in time is not followed', async t => {
  const { clock, early, run } = await pod(t)
  const times: number[] = []
  await run(2, event => {
    if (event.kind !== 'issued') return
    times.push(clock.now())
    early.order.set({ before: new Date(clock.now() + 1).toISOString(), withinSeconds: 1_000 })
    queueMicrotask(() => early.order.set(undefined))
  })
  t.ok((issuedAt(times)[1] ?? 0) > PLANNED_SECONDS)
})

t.test('a certificate that is revoked is replaced at once, and only that one', async t => {
  const { clock, early, run } = await pod(t)
  const times: number[] = []
  await run(3, event => {
    if (event.kind !== 'issued') return
    times.push(clock.now())
    if (times.length === 1) early.revoked.set(event.credential.serial)
  })
  const [, second = 0, third = 0] = issuedAt(times)
  t.ok(second <= 1)
  t.ok(third - second > PLANNED_SECONDS)
})

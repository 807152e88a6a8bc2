// A node's clock that is set, is off, or stops in suspend, with a signer and an API server that have the time: what
// costs nothing, what is told as PSTN_CLOCK_SKEW, and that nothing has to be restarted for it.
import t, { type Test } from 'tap'
import type { Credential } from '../../../../proxy/credentials/credential.ts'
import { csrCredentialSource, type IssuanceEvent } from '../../../../proxy/credentials/csr-source.ts'
import { openStateVolume } from '../../../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../../../proxy/credentials/trust.ts'
import { clockSkew } from '../../../../shared/clock-skew.ts'
import { parseSpiffeId } from '../../../../shared/spiffe-id.ts'
import { parseCsr } from '../../../../shared/x509/csr.ts'
import { testAuthority } from '../../../support/certificates.ts'
import { scratchDirectory } from '../../../support/scratch.ts'
import { scriptedApi } from '../../../support/scripted-api.ts'
import { steppingClock } from '../../../support/stepping-clock.ts'

const IDENTITY = parseSpiffeId('spiffe://cluster.local/ns/shop/sa/cart').id
const POD = { podUid: '5f2a-11', username: 'system:serviceaccount:shop:cart' }
const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const BACKDATE = 5 * MINUTE

const authority = await testAuthority('cluster.local')

/** A pod whose clock the test sets; `signerOffMs` is how far the signer's is off. */
async function pod(t: Test, { lifeMs = DAY, signerOffMs = 0 } = {}) {
  const clock = steppingClock()
  const skew = clockSkew(clock)
  const api = await scriptedApi({ ...POD, onDate: skew.observe })
  t.teardown(() => api[Symbol.asyncDispose]())
  const dir = scratchDirectory(t)
  const signers = { offMs: signerOffMs }
  api.now = clock.truth
  api.trust = { 'trust-domain': 'cluster.local', 'roots.pem': authority.root }
  api.answer = async ({ spec }) => {
    const now = clock.truth() + signers.offMs
    const { chain } = await authority.issue({
      identity: IDENTITY,
      notBefore: new Date(now - BACKDATE),
      notAfter: new Date(now + lifeMs),
      publicKey: parseCsr(Buffer.from(spec.request, 'base64').toString()).spki,
    })
    return { conditions: [{ type: 'Approved' }], certificate: Buffer.from(chain).toString('base64') }
  }
  const events: IssuanceEvent[] = []
  /** When each credential came and until when it is good, by the true time. */
  const taken: { at: number; until: number }[] = []
  /** A process that starts now and ends with its `count`th credential, or at `stop`. */
  const run = async (
    count: number,
    observe: (event: IssuanceEvent, stop: () => void) => void = () => {},
  ): Promise<Credential[]> => {
    const stopping = new AbortController()
    const volume = openStateVolume(dir, error => t.fail(error.message))
    const source = csrCredentialSource({
      ...POD,
      kube: api.kube,
      clock,
      skew,
      signerName: 'postern.dev/workload',
      lifetimeSeconds: lifeMs / SECOND,
      timeoutMs: 10 * SECOND,
      identity: IDENTITY,
      trust: await openTrustStore(api.kube, 'cluster.local', volume),
      volume,
      random: () => 0.5,
      observe: event => {
        events.push(event)
        // As the injector does after a minute.
        if (event.kind === 'issued' || api.requests.size > 7) api.requests.clear()
        observe(event, () => stopping.abort())
      },
    })
    const credentials: Credential[] = []
    for await (const credential of source(stopping.signal)) {
      credentials.push(credential)
      taken.push({ at: clock.truth(), until: credential.notAfter.getTime() })
      if (credentials.length === count) break
    }
    return credentials
  }
  const failures = () => events.flatMap(event => (event.kind === 'failed' ? [event.error] : []))
  const told = () => events.flatMap(event => (event.kind === 'skewed' ? [event.error.message] : []))
  /** Milliseconds, in all, in which no credential was good. */
  const without = () =>
    taken.reduce((sum, { at }, index) => sum + Math.max(at - (taken[index - 1]?.until ?? at), 0), 0)
  return { api, clock, signers, events, run, failures, told, without }
}

for (const minutes of [4, -4]) {
  t.test(`a clock that is ${minutes} minutes off all the time costs nothing`, async t => {
    const { clock, run, failures, told, without } = await pod(t, { lifeMs: HOUR })
    clock.step(minutes * MINUTE)
    await run(4)
    t.same(failures(), [])
    t.same(told(), [])
    t.equal(without(), 0)
  })

  t.test(`a step of ${minutes} minutes while a renewal is waited for costs nothing`, async t => {
    const { clock, run, failures, told, without } = await pod(t, { lifeMs: HOUR })
    clock.step(minutes * MINUTE, 5 * MINUTE)
    await run(4)
    t.same(failures(), [])
    t.same(told(), [])
    t.equal(without(), 0)
  })
}

t.test('a clock ten minutes ahead renews all the same, and says by how much it is off', async t => {
  const { clock, run, failures, told, without } = await pod(t, { lifeMs: HOUR })
  clock.step(10 * MINUTE, 5 * MINUTE)
  await run(3)
  t.same(failures(), [])
  t.equal(told().length, 2, 'with each certificate since')
  t.match(told()[0], /^our clock is (599|600|601) s ahead of the API server’s$/)
  t.equal(without(), 0)
})

t.test(
  'a clock set back by ten minutes keeps what it has, says by how much, and renews a few minutes later',
  async t => {
    const { api, clock, run, failures, told, without } = await pod(t, { lifeMs: HOUR })
    clock.step(-10 * MINUTE, 5 * MINUTE)
    const [, second] = await run(2)
    t.ok(failures().length > 1)
    for (const { code, message } of failures()) {
      t.equal(code, 'PSTN_CLOCK_SKEW')
      t.match(message, /valid from .*; our clock says .*, (599|600|601) s behind the API server’s$/)
    }
    t.match(told(), [/^our clock is (599|600|601) s behind the API server’s$/])
    t.equal(without(), 0)
    t.ok(
      second && second.notBefore.getTime() <= clock.now() + MINUTE,
      'not before our clock lets it, with a tolerance',
    )
    t.ok(api.created.length < 12, `${api.created.length} requests meanwhile`)
  },
)

t.test('a pod that starts with a clock ten minutes behind has its certificate after about four', async t => {
  const { clock, run, failures } = await pod(t)
  clock.step(-10 * MINUTE)
  await run(1)
  t.ok(failures().every(({ code }) => code === 'PSTN_CLOCK_SKEW'))
  t.ok(clock.monotonic() > 4 * MINUTE && clock.monotonic() < 5 * MINUTE, `${clock.monotonic()} ms`)
})

t.test('once the clock is right again the next attempt succeeds', async t => {
  for (const hours of [-3, 30]) {
    const { clock, run, failures } = await pod(t)
    clock.step(hours * HOUR)
    let corrected = 0
    await run(1, event => {
      if (event.kind !== 'failed' || event.failures !== 6) return
      clock.step(-hours * HOUR)
      corrected = clock.monotonic()
    })
    t.same(new Set(failures().map(({ code }) => code)), new Set(['PSTN_CLOCK_SKEW']), `${hours} h`)
    t.ok(clock.monotonic() - corrected <= 30 * SECOND, `${hours} h: ${clock.monotonic() - corrected} ms`)
  }
})

t.test(
  'a step far beyond notAfter is told as what it is, not as a certificate that does not fit',
  async t => {
    const { clock, run, failures, api } = await pod(t, { lifeMs: 10 * MINUTE })
    clock.step(HOUR, MINUTE)
    await run(2, (event, stop) => {
      if (event.kind === 'failed' && event.failures === 3) stop()
    })
    for (const { code, message } of failures()) {
      t.equal(code, 'PSTN_CLOCK_SKEW')
      t.match(message, /valid until .*; our clock says .*, 360[01] s ahead of the API server’s$/)
    }
    t.ok(clock.monotonic() < 3 * MINUTE, 'noticed within a quarter of a minute')
    t.ok(api.created.length <= 4)
  },
)

t.test('an expired answer is no skew of ours when the clocks agree', async t => {
  const { run, failures } = await pod(t, { signerOffMs: -2 * DAY })
  await run(1, (event, stop) => {
    if (event.kind === 'failed') stop()
  })
  t.match(failures(), [{ code: 'PSTN_CSR_ANSWER_INVALID', message: /expired/ }])
})

t.test('a signer whose clock is ahead is named, and its next answers are tried too', async t => {
  const { signers, run, failures, clock } = await pod(t, { signerOffMs: 2 * HOUR })
  await run(1, event => {
    if (event.kind === 'failed' && event.failures === 3) signers.offMs = 0
  })
  for (const { code, message } of failures()) {
    t.equal(code, 'PSTN_CLOCK_SKEW')
    t.match(message, /as the API server’s does: it is the signer’s that is off$/)
  }
  t.ok(clock.monotonic() < MINUTE, 'it did not wait for two hours')
})

t.test(
  'a machine that slept through its renewal, or past expiry, renews within a quarter of a minute',
  async t => {
    for (const [hours, expired] of [
      [16, false],
      [30, true],
    ] as const) {
      const { clock, run, failures } = await pod(t)
      clock.suspend(hours * HOUR, HOUR + 7 * SECOND)
      const [first] = await run(2)
      t.equal((first?.notAfter.getTime() ?? 0) < clock.now(), expired)
      t.ok(clock.monotonic() - HOUR <= 22 * SECOND, `${hours} h: ${clock.monotonic() - HOUR} ms`)
      t.same(failures(), [])
    }
  },
)

t.test('a machine that slept while it backed off tries again within a quarter of a minute', async t => {
  const { api, clock, run } = await pod(t)
  let asleep = 0
  await run(2, event => {
    if (event.kind === 'issued') api.outage = { status: 503, message: 'down' }
    // By now attempts are five minutes apart.
    if (event.kind !== 'failed' || event.failures !== 15) return
    api.outage = undefined
    asleep = clock.monotonic()
    clock.suspend(8 * HOUR, asleep + SECOND)
  })
  t.ok(asleep > 0)
  t.ok(clock.monotonic() - asleep <= 16 * SECOND, `${clock.monotonic() - asleep} ms`)
})

t.test('a leaf of 30 s with a backdate of five minutes does not loop, whatever the clock does', async t => {
  const { api, clock, run, without } = await pod(t, { lifeMs: 30 * SECOND })
  for (const [index, minutes] of [4, -4, -4, 4].entries()) clock.step(minutes * MINUTE, (index + 1) * MINUTE)
  await run(40)
  const perMinute = api.created.length / (clock.monotonic() / MINUTE)
  t.ok(perMinute < 12, `${perMinute} requests a minute`)
  t.comment(`${without()} ms of ${clock.monotonic()} without a certificate`)
})

t.test('a restart after the clock was set back uses the stored certificate', async t => {
  const { api, clock, events, run } = await pod(t)
  await run(1)
  clock.step(-10 * MINUTE)
  api.outage = { status: 503, message: 'down' }
  t.equal((await run(1)).length, 1)
  t.match(events.at(-1), { kind: 'restored' })
})

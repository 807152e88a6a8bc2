import t, { type Test } from 'tap'
import { createRenewalAlarm } from '../../../../injector/control/renewal-alarm.ts'
import { failureEvent, type RenewalEvent, recoveryEvent } from '../../../../injector/control/renewal-event.ts'
import type { SidecarReport } from '../../../../shared/control/sidecar-report.ts'
import { type Kube, KubeError } from '../../../../shared/kube/rest.ts'
import { createLogger } from '../../../../shared/log.ts'

const START = Date.parse('2030-01-01T12:00:00.000Z')
const MINUTE_MS = 60_000
const log = createLogger('test', 'error')

const good: SidecarReport = {
  podUid: '7d1c3f0a-0000-4000-8000-000000000001',
  pod: 'web-0',
  namespace: 'shop',
  version: '1.0.0',
  replica: 'injector-0',
  roots: [],
  certificate: { serial: '0a', notAfter: '2030-01-02T00:00:00.000Z', receivedAt: '2030-01-01T00:00:00.000Z' },
  connectedSince: '2030-01-01T00:00:00.000Z',
}
const failing = (failures: number, code = 'PSTN_CSR_TIMEOUT'): SidecarReport => ({
  ...good,
  renewal: { failures, code, since: '2030-01-01T11:00:00.000Z', retrySeconds: 60 },
})

t.test('an event says the code, since when, what is left and what to do, on the pod', async t => {
  t.match(failureEvent(failing(4), START), {
    kind: 'Event',
    type: 'Warning',
    reason: 'CertificateNotRenewed',
    involvedObject: { kind: 'Pod', name: 'web-0', namespace: 'shop', uid: good.podUid },
    message:
      'PSTN_CSR_TIMEOUT: the certificate is not renewed: 4 attempts have failed since 2030-01-01T11:00:00.000Z; it is valid for ' +
      '12 h more, until 2030-01-02T00:00:00.000Z. No certificate arrived in time; the request is retried with backoff. ' +
      'Is the injector (approver) running, and does anything serve the signerName?',
  })
})

t.test('a hiccup is no event, nor is what is not known', async t => {
  for (const report of [good, failing(1), failing(2)]) t.equal(failureEvent(report, START), undefined)
  const { certificate: _, ...silent } = good
  t.equal(failureEvent(silent, START), undefined)
})

t.test('a first failure in the last quarter of the life is one, and so is silence there', async t => {
  const late = Date.parse('2030-01-01T18:30:00.000Z')
  t.match(failureEvent(failing(1), late)?.message, /^PSTN_CSR_TIMEOUT: .* it is valid for 5 h 30 min more/)
  t.match(
    failureEvent(good, late)?.message,
    /has not been renewed in time, and the sidecar tells of no failure.*postern-proxy/,
  )
})

t.test('an expired certificate is said to be', async t => {
  t.match(
    failureEvent(failing(9), Date.parse('2030-01-02T01:00:00.000Z'))?.message,
    /it expired at 2030-01-02/,
  )
})

t.test('a code of a newer version is told without advice', async t => {
  t.match(
    failureEvent(failing(3, 'PSTN_NOT_YET_INVENTED'), START)?.message,
    /^PSTN_NOT_YET_INVENTED: .*postern-proxy says more\.$/,
  )
})

t.test('its name is the same from every replica, and another one each hour', async t => {
  const nameAt = (report: SidecarReport, minutes: number) =>
    failureEvent(report, START + minutes * MINUTE_MS)?.metadata.name
  t.equal(nameAt(failing(4), 0), nameAt({ ...failing(9), replica: 'injector-1' }, 20))
  t.not(nameAt(failing(4), 0), nameAt(failing(4), 60))
  t.match(nameAt(failing(4), 0), /^[a-z0-9.-]{1,253}$/)
})

t.test('the recovery says which certificate there is now', async t => {
  t.match(recoveryEvent(good, START), {
    type: 'Normal',
    reason: 'CertificateRenewed',
    message:
      'the certificate is renewed again; the present one is 0a, it is valid for 12 h more, until 2030-01-02T00:00:00.000Z',
  })
})

/** What is written, by a clock that a test sets. */
function alarm(t: Test, answer: () => Promise<void> = async () => undefined) {
  let minutes = 0
  const written: RenewalEvent[] = []
  const stop = new AbortController()
  t.teardown(() => stop.abort())
  const create = async (path: string, event: RenewalEvent) => {
    written.push(event)
    t.equal(path, '/api/v1/namespaces/shop/events')
    await answer()
  }
  const clock = {
    now: () => START + minutes * MINUTE_MS,
    monotonic: () => minutes * MINUTE_MS,
    sleep: () => new Promise<void>(resolve => setImmediate(resolve)),
  }
  const world = { pods: new Map() }
  const alarm = createRenewalAlarm({
    kube: { create } as unknown as Kube,
    clock,
    log,
    world,
    signal: stop.signal,
  })
  return {
    alarm,
    written,
    world,
    stop,
    hear: async (report: SidecarReport, afterMinutes = 0) => {
      minutes += afterMinutes
      alarm.hear(report)
      await new Promise(resolve => setImmediate(resolve))
    },
    reasons: () => written.map(({ reason }) => reason),
  }
}

t.test('one event for many attempts, one more each hour, one at the end', async t => {
  const { hear, reasons, written } = alarm(t)
  await hear(good)
  await hear(failing(2))
  t.same(reasons(), [])
  for (let failures = 3; failures < 20; failures++) await hear(failing(failures), 1)
  t.same(reasons(), ['CertificateNotRenewed'])
  for (let minute = 0; minute < 60; minute++) await hear(failing(20), 1)
  t.same(reasons(), ['CertificateNotRenewed', 'CertificateNotRenewed'])
  await hear(good, 1)
  for (let minute = 0; minute < 5; minute++) await hear(good, 1)
  t.same(reasons(), ['CertificateNotRenewed', 'CertificateNotRenewed', 'CertificateRenewed'])
  t.equal(new Set(written.map(({ metadata }) => metadata.name)).size, 3)
})

t.test('what was never told of does not recover aloud', async t => {
  const { hear, reasons } = alarm(t)
  await hear(failing(2))
  await hear(good, 5)
  t.same(reasons(), [])
})

t.test('a sidecar that says something else each second has its share and no more', async t => {
  const { hear, reasons } = alarm(t)
  for (let second = 0; second < 600; second++) {
    const since = new Date(START - second * 1_000).toISOString()
    await hear(
      { ...failing(5), renewal: { failures: 5, code: 'PSTN_LIMIT', since, retrySeconds: 1 } },
      1 / 60,
    )
  }
  t.ok(reasons().length <= 40, `${reasons().length} events in ten minutes`)
})

t.test(
  'when all pods of a namespace fail at once twenty a minute are written, and in the end all of them',
  async t => {
    const { hear, written } = alarm(t)
    const each = Array.from({ length: 150 }, (_, n) => ({
      ...failing(5),
      podUid: `uid-${n}`,
      pod: `web-${n}`,
    }))
    for (const report of each) await hear(report)
    t.equal(written.length, 20)
    for (let minute = 0; minute < 8; minute++)
      for (const [n, report] of each.entries()) await hear(report, n === 0 ? 1 : 0)
    t.equal(new Set(written.map(({ involvedObject }) => involvedObject.uid)).size, 150)
  },
)

t.test('what another replica has written is not written again; what could not be is tried again', async t => {
  const conflict = alarm(t, () => Promise.reject(new KubeError(409, 'AlreadyExists', 'exists')))
  await conflict.hear(failing(5))
  for (let minute = 0; minute < 5; minute++) await conflict.hear(failing(5), 1)
  t.equal(conflict.written.length, 1)
  const away = alarm(t, () => Promise.reject(new Error('ECONNREFUSED')))
  await away.hear(failing(5))
  for (let minute = 0; minute < 3; minute++) await away.hear(failing(5), 1)
  t.equal(away.written.length, 4)
})

t.test(
  'a sidecar that came back to another replica is followed there; one whose pod is gone is not',
  async t => {
    const { alarm: watching, hear, written, world, stop } = alarm(t)
    await hear(failing(5))
    world.pods.set(good.podUid, { live: true })
    const gather = async () => ({
      reports: [{ ...good, replica: 'injector-1' }],
      missing: [],
      unconnected: [],
    })
    let asked = 0
    const reports = {
      gather: () => {
        asked += 1
        return gather()
      },
    }
    await hear(failing(5), 2)
    const following = watching.follow(reports, stop.signal)
    while (written.length < 2) await new Promise(resolve => setImmediate(resolve))
    t.match(written[1], { reason: 'CertificateRenewed', source: { host: 'injector-1' } })
    world.pods.delete(good.podUid)
    await new Promise(resolve => setTimeout(resolve, 20))
    const before = asked
    await new Promise(resolve => setTimeout(resolve, 20))
    t.equal(asked, before, 'nobody is asked for what is gone')
    stop.abort()
    await following
  },
)

import { createPrivateKey } from 'node:crypto'
import t from 'tap'
import { type Authority, createIssuer, createRoot, openAuthority } from '../../../../injector/ca/authority.ts'
import { type SelfIssued, selfIssued } from '../../../../injector/ca/self-issued.ts'
import type { Clock } from '../../../../shared/clock.ts'
import { live, until } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'

const HOUR_MS = 3_600_000
const start = Date.now()
const root = await createRoot('cluster.local', start)
const open = async () => openAuthority({ root, issuer: await createIssuer(root, 'cluster.local', start) })
const log = createLogger('test', 'error')
const names = { commonName: 'webhook', dnsNames: ['postern-injector.postern-system.svc'] }

/** A clock whose sleepers wake when a test moves it. */
function steppedClock(): Clock & { advance(ms: number): void } {
  let offset = 0
  let wake: (() => void)[] = []
  return {
    now: () => start + offset,
    monotonic: () => offset,
    sleep: (_, signal) =>
      new Promise((resolve, reject) => {
        wake.push(resolve)
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      }),
    advance: ms => {
      offset += ms
      const woken = wake
      wake = []
      for (const resolve of woken) resolve()
    },
  }
}

const other =
  (serial: string) =>
  (value: SelfIssued): value is SelfIssued =>
    value.serial !== serial

t.test('the first certificate has the names, and its own key', async t => {
  const stop = new AbortController()
  const issued = (
    await selfIssued(live(await open()), names, { clock: steppedClock(), log, signal: stop.signal })
  ).get()
  const leaf = parseCertificate(issued.chain)
  t.same(leaf.dnsSans, names.dnsNames)
  t.ok(leaf.x509.checkPrivateKey(createPrivateKey(issued.key)))
  stop.abort()
})

t.test('it is renewed with a new key at half its life, not before', async t => {
  const stop = new AbortController()
  const clock = steppedClock()
  const current = await selfIssued(live(await open()), names, { clock, log, signal: stop.signal })
  const first = current.get()
  clock.advance(11 * HOUR_MS)
  await new Promise(setImmediate)
  t.equal(current.get().serial, first.serial)
  clock.advance(1.1 * HOUR_MS)
  const second = await until(current, other(first.serial), AbortSignal.timeout(5_000))
  t.not(second.key, first.key)
  stop.abort()
})

t.test('a new issuer makes a new certificate at once', async t => {
  const stop = new AbortController()
  const authority = live<Authority>(await open())
  const current = await selfIssued(authority, names, { clock: steppedClock(), log, signal: stop.signal })
  const { serial } = current.get()
  authority.set(await open())
  t.ok(await until(current, other(serial), AbortSignal.timeout(5_000)))
  stop.abort()
})

t.test('a slow answer of a former issuer does not replace that of the present one', async t => {
  const stop = new AbortController()
  const [former, present] = [await open(), await open()]
  const authority = live<Authority>(former)
  const current = await selfIssued(authority, names, { clock: steppedClock(), log, signal: stop.signal })
  const { serial } = current.get()
  const gate = Promise.withResolvers<void>()
  const slow = Promise.withResolvers<void>()
  authority.set({
    ...former,
    issue: async request => {
      await gate.promise
      const leaf = await former.issue(request)
      setImmediate(slow.resolve)
      return leaf
    },
  })
  authority.set(present)
  await until(current, other(serial), AbortSignal.timeout(5_000))
  gate.resolve()
  await slow.promise
  t.ok(parseCertificate(current.get().chain).isSignedBy(present.issuer))
  stop.abort()
})

t.test('a failed renewal keeps the old certificate', async t => {
  const stop = new AbortController()
  const authority = live<Authority>(await open())
  const quiet = createLogger('test', 'error')
  quiet.level = 'silent'
  const current = await selfIssued(authority, names, {
    clock: steppedClock(),
    log: quiet,
    signal: stop.signal,
  })
  const { serial } = current.get()
  authority.set({ ...authority.get(), issue: () => Promise.reject(new Error('broken')) })
  await new Promise(setImmediate)
  t.equal(current.get().serial, serial)
  stop.abort()
})
